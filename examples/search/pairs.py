"""Home Depot's pairs of query and product title with graded relevance, and BM25 to compare with."""

import csv
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pair = dict[str, str | float]

_WORDS = re.compile(r"[a-z0-9]+")


def read_pairs(data_dir: Path) -> list[Pair]:
    """Return all pairs: `query`, `title`, `relevance` (1 to 3).

    Raises:
        FileNotFoundError: If the data set does not lie there.
    """
    packed = data_dir / "home_depot_relevance" / "train.csv.zip"
    with zipfile.ZipFile(packed) as folder, folder.open("train.csv") as file:
        lines = csv.DictReader(io.TextIOWrapper(file, encoding="latin-1"))
        return [
            {"query": line["search_term"], "title": line["product_title"], "relevance": float(line["relevance"])}
            for line in lines
        ]


def split_by_query(
    pairs: Sequence[Pair], *, learn: int, judge: int, seed: int, least: int = 6
) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of some queries to learn from, and those of others to judge with; both in random order.

    Args:
        pairs: All of them.
        learn: Queries to learn from.
        judge: Queries that judge; the same for every seed.
        seed: Draws the queries that are learned from.
        least: Queries with fewer judged titles are left out: there is little to rank.
    """
    of_query: dict[str, list[Pair]] = {}
    for pair in pairs:
        of_query.setdefault(str(pair["query"]), []).append(pair)
    queries = sorted(query for query, found in of_query.items() if len(found) >= least)
    order = np.random.default_rng(0).permutation(len(queries))
    judged, others = order[:judge], order[judge:]
    learned = np.random.default_rng(seed).permutation(others)[:learn]
    return (
        [pair for place in learned for pair in of_query[queries[place]]],
        [pair for place in judged for pair in of_query[queries[place]]],
    )


def bm25(pairs: Sequence[Pair], corpus: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> npt.NDArray[np.float64]:
    """Return a score per pair.

    Args:
        pairs: To be scored.
        corpus: Titles that say how rare a word is.
        k1: How soon more of the same word stops counting.
        b: How much long titles are held back.

    >>> pairs = [{"query": "red mug", "title": title} for title in ("red mug", "blue mug", "chair")]
    >>> bm25(pairs, ["red mug", "blue mug", "chair", "mug"]).argsort().tolist()
    [2, 1, 0]

    Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, equation 3.15.
    """
    documents = [words(title) for title in corpus]
    appears = Counter(word for document in documents for word in set(document))
    mean = sum(map(len, documents)) / max(1, len(documents))
    scores = np.zeros(len(pairs))
    for place, pair in enumerate(pairs):
        title = Counter(words(str(pair["title"])))
        held = k1 * (1 - b + b * sum(title.values()) / mean)
        for word in set(words(str(pair["query"]))) & title.keys():
            rarity = math.log(1 + (len(documents) - appears[word] + 0.5) / (appears[word] + 0.5))
            scores[place] += rarity * title[word] * (k1 + 1) / (title[word] + held)
    return scores


def words(text: str) -> list[str]:
    """Return lower-case words, without a plural's s.

    >>> words("Red Mugs, 12 oz.")
    ['red', 'mug', '12', 'oz']
    """
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORDS.findall(text.lower())]
