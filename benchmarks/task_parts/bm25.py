"""BM25: what a search engine does without learning."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

K1, B = 1.2, 0.75
_WORDS = re.compile(r"[a-z0-9]+")


class Bm25:
    """Scores of queries against documents, by a collection's statistics.

    Args:
        documents: The collection.

    >>> engine = Bm25(["red mug", "red kettle", "steel pan"])
    >>> engine.score("mugs", "red mug") > engine.score("red", "red mug") > engine.score("pan", "red mug") == 0
    True

    Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, equation 3.15.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        words = [terms(document) for document in documents]
        self._count = len(words)
        self._length = float(np.mean([len(each) for each in words])) if words else 1.0
        self._holding = Counter(term for each in words for term in set(each))

    def score(self, query: str, document: str) -> float:
        """Return how well a document answers a query; 0 without a term in common."""
        words = terms(document)
        counts, total = Counter(words), 0.0
        for term in set(terms(query)) & counts.keys():
            rarity = math.log(1 + (self._count - self._holding[term] + 0.5) / (self._holding[term] + 0.5))
            often = counts[term] * (K1 + 1) / (counts[term] + K1 * (1 - B + B * len(words) / self._length))
            total += rarity * often
        return total


def terms(text: str) -> list[str]:
    """Return the words, without the s of plurals.

    >>> terms("Two steel-Pans, 3 in.")
    ['two', 'steel', 'pan', '3', 'in']
    """
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORDS.findall(text.lower())]


def calibrated(
    learned: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return scores as labels, by least squares on what was learned from.

    >>> calibrated(np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([0.5])).round(6).tolist()
    [2.0]
    """
    slope, start = np.polyfit(learned, labels, 1)
    said: npt.NDArray[np.float64] = slope * scores + start
    return said
