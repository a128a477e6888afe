"""How many interactions with each item the shared model has learned from: who can teach, and who is new to it."""

from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int32]


class Lessons:
    """Interactions per item in released rounds; those of a round under way count when it is released.

    >>> lessons = Lessons()
    >>> lessons.begin(np.array([[0, 3, 3], [0, 0, 1]]), np.array([[True, True], [False, True]]))
    >>> lessons.learned(5).tolist()
    [0, 0, 0, 0, 0]
    >>> lessons.done(); lessons.learned(5).tolist()
    [0, 1, 0, 2, 0]
    """

    def __init__(self) -> None:
        self._released: Counts = np.zeros(0, np.int32)
        self._under_way: Counts = np.zeros(0, np.int32)

    def begin(self, tokens: npt.NDArray[np.integer[Any]], mask: npt.NDArray[np.bool_]) -> None:
        """Say what a round learns: item indexes [M, L+1], and which of `tokens[:, 1:]` are targets [M, L]."""
        self._under_way = np.bincount(tokens[:, 1:][mask]).astype(np.int32)

    def done(self) -> None:
        """Count the round under way, if there is one: it was released."""
        items = max(len(self._released), len(self._under_way))
        self._released = _padded(self._released, items) + _padded(self._under_way, items)
        self.abandon()

    def abandon(self) -> None:
        """Forget the round under way: it failed or was refused."""
        self._under_way = np.zeros(0, np.int32)

    def learned(self, items: int) -> Counts:
        """Return the interactions with each item that released rounds learned from, int32 [items]."""
        return _padded(self._released, items)

    def get_state(self) -> dict[str, Any]:
        return {"released": self._released.copy(), "under_way": self._under_way.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        self._released = np.array(state["released"], np.int32)
        self._under_way = np.array(state["under_way"], np.int32)


def _padded(counts: Counts, items: int) -> Counts:
    padded = np.zeros(max(items, len(counts)), np.int32)
    padded[: len(counts)] = counts
    return padded
