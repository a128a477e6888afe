"""Item-kNN: what was taken by those who took what you took."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.log import Indexes, Log
from benchmarks.prequential_parts.protocol import Moment


class ItemKnn:
    """Cosine similarity between items over people, kept up to date with every interaction.

    The score of item j is the sum, over the items i that a person took last, of their cosine
    `people(i and j) / sqrt(people(i) * (people(j) + shrink))`.

    Args:
        items: N, padding included.
        last: How many of a person's last distinct items are looked at, both to score and to link.
        shrink: Added to the count of people, so that one chance meeting is no certainty.

    Source: Deshpande & Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004.

    >>> knn = ItemKnn(4, last=10, shrink=0)
    >>> for user, history, item in [(0, [], 1), (0, [1], 2), (1, [], 1), (1, [1], 3), (2, [], 3), (2, [3], 1)]:
    ...     knn.learn(Moment(user, np.array(history, np.int32), 0, 4), item)
    >>> scores = knn.scores([Moment(3, np.array([1], np.int32), 0, 4)])[0, 1:]
    >>> [round(float(score), 3) for score in scores]  # of 2: 1 / sqrt(3 * 1), of 3: 2 / sqrt(3 * 2)
    [0.0, 0.577, 0.816]
    """

    block = 1

    def __init__(self, items: int, *, last: int = 50, shrink: float = 5.0) -> None:
        self._both = np.zeros((items, items), np.float32)
        self._people = np.zeros(items, np.float32)
        self._last, self._shrink = last, np.float32(shrink)

    def refit(self, past: Log) -> None:
        """Nothing: it has learned everything already."""

    def scores(self, moments: Sequence[Moment]) -> npt.NDArray[np.float32]:
        """Return the summed cosines, [len(moments), N]."""
        return np.stack([self._of(last_distinct(moment.history, self._last)) for moment in moments])

    def _of(self, recent: Indexes) -> npt.NDArray[np.float32]:
        if not len(recent):
            return self._people.copy()  # a stranger gets what most people took
        weights = 1 / np.sqrt(np.maximum(self._people[recent], 1))
        total = weights @ self._both[recent]
        scores: npt.NDArray[np.float32] = total / np.sqrt(np.maximum(self._people + self._shrink, 1))
        return scores

    def learn(self, moment: Moment, item: int) -> None:
        """Count the person for the item, and for the pair with each of the last items; a repeat is not news."""
        if item in moment.history:
            return
        recent = last_distinct(moment.history, self._last)
        self._people[item] += 1
        self._both[recent, item] += 1
        self._both[item, recent] += 1


def last_distinct(history: Indexes, most: int) -> Indexes:
    """Return a person's last distinct items, in no order that matters.

    >>> last_distinct(np.array([4, 5, 4, 6]), 2).tolist()
    [4, 6]
    """
    if not len(history):
        return history
    newest_first = history[::-1]
    items, first = np.unique(newest_first, return_index=True)
    return items[np.sort(np.argsort(first, kind="stable")[:most])]
