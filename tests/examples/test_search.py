import json
from pathlib import Path

import numpy as np
import pytest

from examples.common import DATA
from examples.search.pairs import bm25, split_by_query
from examples.search.run import WAYS, main


def pairs(queries: int, titles: int, name: str = "query") -> list[dict[str, str | float]]:
    return [
        {"query": f"{name} {query}", "title": f"title {title} of {query}", "relevance": 1.0 + title % 3}
        for query in range(queries)
        for title in range(titles)
    ]


def test_queries_that_judge_are_never_learned_and_are_the_same_for_every_seed() -> None:
    made = pairs(40, 6) + pairs(3, 2, "short query")

    (learn, judge), (other, again) = (split_by_query(made, learn=20, judge=10, seed=seed) for seed in (0, 1))

    assert judge == again
    assert {pair["query"] for pair in learn} != {pair["query"] for pair in other}
    assert not {pair["query"] for pair in learn} & {pair["query"] for pair in judge}
    assert (len(learn), len(judge)) == (20 * 6, 10 * 6)  # all titles of a query, and no query with few of them


def test_rare_words_and_short_titles_count_more() -> None:
    corpus = ["blue paint", "red paint", "blue paint with a brush", "white paint", "hammer"]
    asked = [{"query": "blue paint", "title": title} for title in corpus]

    scores = bm25(asked, corpus)

    assert scores.argmax() == 0  # both words, and nothing else
    assert scores[0] > scores[2] > scores[1]
    assert scores[1] == pytest.approx(scores[3])
    assert scores[4] == 0
    assert np.isfinite(scores).all()


@pytest.mark.skipif(not (DATA / "home_depot_relevance").is_dir(), reason="needs home_depot_relevance in ../shared/data")
def test_the_example_still_runs_at_toy_size(tmp_path: Path) -> None:
    main(["--toy", "--seeds", "1", "--out", str(tmp_path)])

    found = json.loads((tmp_path / "search.json").read_text())
    assert set(found) == set(WAYS)
    assert all(0.5 < found[way]["ndcg_10"][0] <= 1 for way in WAYS)
    assert found["encoder as it is"]["rmse"] == []
    assert (tmp_path / "search.png").stat().st_size > 5_000
