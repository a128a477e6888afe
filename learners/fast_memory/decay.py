"""Arrays of decayed counts that need no sweep: old counts never change, new ones weigh more.

A count added at time t weighs `2 ** (t / half_life)`. That number would overflow, so it is measured from the start of
the current era, and eras are cut at multiples of a fixed span since 1970. All holders of such an array therefore agree
on the era, and moving to the next one multiplies by an exact power of two: nothing is rounded, on no machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_HALF_LIVES_PER_ERA = 40  # float32 holds 2 ** 127: an era, its future and a few eras of past fit


class DecayedArray:
    """Decayed counts per item, `[capacity, *shape]`, in units of the current era.

    Args:
        half_life_ms: After this long a count weighs half; at least 1.
        shape: What follows the item axis.

    >>> counts = DecayedArray(half_life_ms=1_000)
    >>> counts.reserve(3)
    >>> for item, time_ms in [(1, 0), (2, 1_000)]:
    ...     unit = counts.unit(time_ms)  # first: it may begin a new era, which rewrites the values
    ...     counts.values[item] += unit
    >>> (counts.values / counts.unit(1_000))[:3].tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self, *, half_life_ms: int, shape: tuple[int, ...] = ()) -> None:
        self.half_life_ms = half_life_ms
        self.era = 0
        self.values: Floats = np.zeros((0, *shape), np.float32)
        self._span_ms = half_life_ms * _HALF_LIVES_PER_ERA

    def reserve(self, items: int) -> None:
        """Have room for this many items; new ones count nothing."""
        if items > len(self.values):
            grown = np.zeros((max(items, 2 * len(self.values)), *self.values.shape[1:]), np.float32)
            grown[: len(self.values)] = self.values
            self.values = grown

    def unit(self, time_ms: int) -> float:
        """Return what one count at this time weighs, moving to a new era if time has come."""
        if (era := time_ms // self._span_ms) > self.era:
            self.move_to(era)
        return float(2.0 ** ((time_ms - self.era * self._span_ms) / self.half_life_ms))

    def move_to(self, era: int) -> None:
        """Express all counts in units of a later era; an earlier one is ignored."""
        if era > self.era:
            self.values *= np.float32(self.factor(self.era, era))
            self.era = era

    def factor(self, of_era: int, in_era: int) -> float:
        """Return what turns units of one era into units of another."""
        return float(2.0 ** max(-1_000, min(1_000, _HALF_LIVES_PER_ERA * (of_era - in_era))))

    def take(self, values: Floats, *, of_era: int) -> Floats:
        """Return another holder's values in this array's units, moving to their era if it is later."""
        self.move_to(of_era)
        return values * np.float32(self.factor(of_era, self.era))

    def get_state(self) -> dict[str, Any]:
        return {"era": self.era, "values": self.values.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.era, self.values = int(state["era"]), np.array(state["values"], np.float32)
