"""Popularity: everybody gets what everybody takes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import Moment

_MOST_HALVINGS = 500.0  # before counts are rescaled, long before a float64 overflows


class Popularity:
    """Rank by decayed counts, learned from each interaction at once.

    Args:
        items: N, padding included.
        half_life_ms: After this long a count weighs half; None: never less.

    >>> popular = Popularity(4, half_life_ms=1_000)
    >>> for now_ms, item in [(0, 1), (0, 1), (5_000, 2)]:
    ...     popular.learn(Moment(0, np.zeros(0, np.int32), now_ms, 4), item)
    >>> int(popular.scores([Moment(0, np.zeros(0, np.int32), 5_000, 4)])[0].argmax())
    2
    """

    block = 1

    def __init__(self, items: int, *, half_life_ms: int | None = None) -> None:
        self._counts = np.zeros(items, np.float64)
        self._half_life_ms = half_life_ms
        self._since_ms: int | None = None

    def refit(self, past: Log) -> None:
        """Nothing: it has learned everything already."""

    def scores(self, moments: Sequence[Moment]) -> npt.NDArray[np.float32]:
        """Return the same counts, relative to the largest, for everyone."""
        shares = self._counts / max(1e-300, self._counts.max())
        return np.tile(shares.astype(np.float32), (len(moments), 1))

    def learn(self, moment: Moment, item: int) -> None:
        """Count one more; a later one weighs more, so that old counts need not be touched."""
        if self._half_life_ms is None:
            self._counts[item] += 1
            return
        if self._since_ms is None:
            self._since_ms = moment.now_ms
        halvings = (moment.now_ms - self._since_ms) / self._half_life_ms
        if halvings > _MOST_HALVINGS:
            self._counts *= 2.0**-halvings
            self._since_ms, halvings = moment.now_ms, 0.0
        self._counts[item] += 2.0**halvings
