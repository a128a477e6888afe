"""What everybody wants now, and how long ago each item was last wanted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.fast_memory.decay import HOUR_MS, DecayedArray

Floats = npt.NDArray[np.float32]

_NEVER_MS = -(2**62)
_LONGEST_MS = 365 * 24 * HOUR_MS
_TELLING = 20  # half-lives of the shortest count that a moment may lie back


class Popularity:
    """Decayed counts of interactions per item, one per half-life, and the time of the last.

    Args:
        half_lives_ms: Half-lives, shortest first.
        smoothing: Counts that every item is granted, above 0.

    >>> popularity = Popularity(half_lives_ms=(1_000,), smoothing=1.0)
    >>> popularity.reserve(3)
    >>> popularity.observe(2, 5_000)
    >>> popularity.log_counts(5_000, 3)[0].argmax().item()
    2
    """

    def __init__(self, *, half_lives_ms: Sequence[int], smoothing: float = 0.05) -> None:
        self.counts = [DecayedArray(half_life_ms=half_life) for half_life in half_lives_ms]
        self.last_ms: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.smoothing = smoothing

    def reserve(self, items: int) -> None:
        """Have room for this many items."""
        for counts in self.counts:
            counts.reserve(items)
        if items > len(self.last_ms):
            grown = np.full(len(self.counts[0].values), _NEVER_MS, np.int64)
            grown[: len(self.last_ms)] = self.last_ms
            self.last_ms = grown

    def observe(self, item_index: int, time_ms: int) -> None:
        """Count one interaction."""
        for counts in self.counts:
            unit = np.float32(counts.unit(time_ms))
            counts.values[item_index] += unit
        self.last_ms[item_index] = max(self.last_ms[item_index], time_ms)

    def clock(self, now_ms: int) -> int:
        """Return `now_ms` as far as it can be told apart here: not after the newest interaction, nor long before it.

        A moment beyond would move counts to another era, though nothing happened; one long before has no unit left.

        >>> popularity = Popularity(half_lives_ms=(1_000,))
        >>> popularity.reserve(2)
        >>> popularity.observe(1, 50_000)
        >>> popularity.clock(2**50), popularity.clock(49_000), popularity.clock(0)
        (50000, 49000, 30000)
        """
        newest_ms = int(self.last_ms.max(initial=_NEVER_MS))
        if newest_ms == _NEVER_MS:
            return 0
        return max(min(now_ms, newest_ms), newest_ms - _TELLING * self.counts[0].half_life_ms)

    def expired(self, after_ms: int, items: int) -> npt.NDArray[np.bool_]:
        """Return which items were met, but not within `after_ms` of the newest interaction, bool [items].

        >>> popularity = Popularity(half_lives_ms=(1_000,))
        >>> popularity.reserve(4)
        >>> popularity.observe(1, 0), popularity.observe(2, 5_000)
        (None, None)
        >>> popularity.expired(4_000, 4).tolist()
        [False, True, False, False]
        """
        last_ms = self.last_ms[:items]
        gone = np.zeros(items, np.bool_)
        gone[: len(last_ms)] = (last_ms > _NEVER_MS) & (last_ms < last_ms.max(initial=_NEVER_MS) - after_ms)
        return gone

    def log_counts(self, now_ms: int, items: int) -> list[Floats]:
        """Return the logarithm of each half-life's smoothed counts at `now_ms`, [items] each."""
        logs: list[Floats] = []
        for counts in self.counts:
            unit = counts.unit(now_ms)
            logs.append(np.log(counts.values[:items] * np.float32(1 / unit) + np.float32(self.smoothing)))
        return logs

    def log_age(self, now_ms: int, items: int) -> Floats:
        """Return minus the logarithm of 1 + hours since each item's last interaction, [items]; a year for "never"."""
        age_ms = np.minimum(now_ms - self.last_ms[:items], _LONGEST_MS).clip(min=0).astype(np.float32)
        age: Floats = -np.log(1 + age_ms * np.float32(1 / HOUR_MS))
        return age

    def get_state(self) -> dict[str, Any]:
        return {"counts": [counts.get_state() for counts in self.counts], "last_ms": self.last_ms.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        for counts, its_state in zip(self.counts, state["counts"], strict=True):
            counts.set_state(its_state)
        self.last_ms = np.array(state["last_ms"], np.int64)
