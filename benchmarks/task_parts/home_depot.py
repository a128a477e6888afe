"""Home Depot: search queries, product titles and how relevant people found them, split by query."""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learners.tasks.examples import Example

FILE = "home_depot_relevance/train.csv.zip"
LOW, HIGH = 1.0, 3.0  # what a label can be


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs to learn from and pairs that judge; no query, and no title of the second, is in the first's catalogue.

    Args:
        learn: Pairs of the other queries.
        test: Pairs of the test queries.
        titles: Different titles that no test pair has: the catalogue as far as it may be learned from.
    """

    learn: list[Example]
    test: list[Example]
    titles: list[str]


def read_pairs(data_dir: Path) -> list[Example]:
    """Return all pairs in the file's order: texts are (query, title), the label is the relevance in [1, 3].

    Raises:
        FileNotFoundError: If the file is not there.
    """
    with zipfile.ZipFile(data_dir / FILE) as archive, archive.open(archive.namelist()[0]) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="latin-1"))
        return [
            Example((row["search_term"].strip(), row["product_title"].strip()), label=float(row["relevance"]))
            for row in rows
        ]


def split_by_query(pairs: Sequence[Example], *, test_share: float, seed: int) -> Split:
    """Return a split in which each query is on one side only.

    Args:
        pairs: All of them.
        test_share: Share of the queries that judge, in (0, 1).
        seed: Which queries.

    >>> pairs = [Example((query, query + " title"), label=1.0) for query in "abcd"]
    >>> split = split_by_query(pairs, test_share=0.5, seed=0)
    >>> len(split.learn), len(split.test), {pair.texts[0] for pair in split.learn} & {p.texts[0] for p in split.test}
    (2, 2, set())
    """
    queries = sorted({pair.texts[0] for pair in pairs})
    drawn = np.random.default_rng(seed).permutation(len(queries))[: round(test_share * len(queries))]
    chosen = {queries[place] for place in drawn}
    test = [pair for pair in pairs if pair.texts[0] in chosen]
    shown = {pair.texts[1] for pair in test}
    learn = [pair for pair in pairs if pair.texts[0] not in chosen]
    titles = sorted({pair.texts[1] for pair in learn} - shown)
    return Split(learn, test, titles)


def whole_queries(pairs: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Return about `most` pairs, of queries drawn at random, each with all of its pairs."""
    queries = sorted({pair.texts[0] for pair in pairs})
    by_query: dict[str, list[Example]] = {}
    for pair in pairs:
        by_query.setdefault(pair.texts[0], []).append(pair)
    found: list[Example] = []
    for place in np.random.default_rng(seed).permutation(len(queries)):
        if len(found) >= most:
            break
        found += by_query[queries[place]]
    return found[:most]


def title_words(titles: Sequence[str], count: int, *, seed: int) -> list[Example]:
    """Return made-up queries, two to four words of a title in their order, each with its title; label 1.

    What the shop knows without asking anybody: its own titles.

    >>> title_words(["red steel kettle"], 1, seed=0)[0].texts[1]
    'red steel kettle'
    """
    rng = np.random.default_rng(seed)
    found = []
    for place in rng.permutation(len(titles))[:count]:
        words = titles[place].split()
        size = min(int(rng.integers(2, 5)), len(words))
        chosen = sorted(rng.choice(len(words), size=size, replace=False))
        found.append(Example((" ".join(words[each] for each in chosen).lower(), titles[place]), label=1.0))
    return found


def toy_pairs(count: int, *, seed: int) -> list[Example]:
    """Return made-up pairs in the same form, four a query, whose relevance is the share of the query's words."""
    rng = np.random.default_rng(seed)
    things = ("drill", "hammer", "saw", "ladder", "paint", "brush", "screw", "hinge", "lamp", "hose")
    kinds = ("steel", "wooden", "small", "large", "white", "black", "cordless", "garden")
    found: list[Example] = []
    while len(found) < count:
        thing, kind = str(rng.choice(things)), str(rng.choice(kinds))
        query = f"{kind} {thing} {len(found) // 4}"
        for label in (3.0, 2.0, 2.0, 1.0):
            named = thing if label > 1 else str(rng.choice([each for each in things if each != thing]))
            called = kind if label > 2 else str(rng.choice([each for each in kinds if each != kind]))
            found.append(
                Example((query, f"Brand{rng.integers(50)} {called} {named} {rng.integers(100)} in."), label=label)
            )
    return found[:count]
