"""Evaluation: a whole prequential run with rounds, repeatable to the last figure."""

from dataclasses import replace
from pathlib import Path

import pytest

from learners.errors import UnknownStrategyError
from learners.evaluation.prequential import evaluate, plot_quality
from learners.fast_memory import FEATURES
from learners.items.encoder import HashEncoder
from learners.items.shelf import Describers, shelf_of
from learners.quality.examiner import Seen
from learners.quality.metrics import MEASURES
from learners.ranking.ranker import Judgement
from learners.rounds.material import RoundConfig, RoundInput
from learners.rounds.round import RoundResult, run_round
from tests.learners.stream_data import CONFIG, ITEMS, item_id, stream

LISTED = shelf_of(
    [{"item_id": item_id(number), "title": f"Thing {number}"} for number in range(1, ITEMS + 1)],
    Describers(texts=HashEncoder(width=8)),
)
QUICK = replace(CONFIG, training=RoundConfig(epochs=1, first_epochs=2))


def run(strategy: str = "default", *, count: int = 1_500, seed: int = 0) -> dict[str, object]:
    return evaluate(stream(count), LISTED, config=QUICK, seed=seed, strategy=strategy)


def test_the_same_seed_gives_the_same_report() -> None:
    first, second = run(), run()
    for volatile in ("wall_s", "gates"):
        del first[volatile], second[volatile]
    assert first == second


def test_a_report_says_what_came_of_every_expert_and_every_round() -> None:
    report = run()
    assert set(report["quality"]) == {
        "mixture",
        "shared_model",
        "fast_memory",
        "covisitation",
        "popularity",
        "recency",
        "repeat",
        "mixture_since_release",
        "fast_memory_since_release",
        "mixture_on_new_items",
        "shared_model_on_new_items",
        "fast_memory_on_new_items",
    }
    since = {report["quality"][name]["count"] for name in report["quality"] if name.endswith("_since_release")}
    assert since == {report["quality"]["shared_model"]["count"]}
    for figures in report["quality"].values():
        assert set(figures) >= set(MEASURES)
        assert all(0 <= figures[name] <= 1 for name in MEASURES)
    assert report["rounds"] >= 2
    assert 1 <= report["releases"] <= report["rounds"]
    assert all("verdict" in gate for gate in report["gates"])


def test_without_rounds_fast_memory_is_the_mixture() -> None:
    report = run("none")
    assert (report["rounds"], report["releases"]) == (0, 0)
    assert report["quality"]["mixture"] == report["quality"]["fast_memory"]


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(UnknownStrategyError, match="'magic'; expected one of default, naive, none"):
        run("magic")


def test_quality_over_time_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots extra is not installed")
    plot_quality(run(), tmp_path / "quality.png")
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_a_witness_sees_every_judgement_before_its_outcome_is_learned() -> None:
    known: list[bool] = []
    counted: dict[int, int] = {}

    def witness(seen: Seen, judgement: Judgement) -> None:
        met = judgement.opinion.features[FEATURES.index("popularity"), seen.item_index]
        known.append(bool(met > judgement.opinion.features[FEATURES.index("popularity")].min()))
        counted[seen.item_index] = counted.get(seen.item_index, 0) + 1

    report = evaluate(stream(300), LISTED, config=QUICK, witness=witness)
    assert len(known) == report["interactions"] == sum(counted.values())
    assert known.count(False) == len(counted)  # an item's first interaction is judged while nobody ever turned to it


def test_a_round_may_be_run_by_somebody_else() -> None:
    ran: list[int] = []

    def run_and_count(round_input: RoundInput, folder: Path) -> RoundResult:
        ran.append(len(round_input.tokens))
        return run_round(round_input, folder)

    report = evaluate(stream(1_500), LISTED, config=QUICK, run=run_and_count)
    assert len(ran) == report["rounds"] >= 1
    assert [gate["round"] for gate in report["gates"]] == list(range(1, len(ran) + 1))


def test_the_last_window_is_reported_though_it_is_not_full() -> None:
    report = run("none", count=1_250)
    points = [point for point in report["curve"] if (point["expert"], point["metric"]) == ("mixture", "hit_rate_10")]
    assert report["interactions"] % QUICK.metrics_window
    assert sum(point["count"] for point in points) == points[-1]["interactions"] == report["interactions"]
    assert points[-1]["count"] == report["interactions"] % QUICK.metrics_window
    mean = sum(point["value"] * point["count"] for point in points) / report["interactions"]
    assert mean == pytest.approx(report["quality"]["mixture"]["hit_rate_10"])
