"""What people come back to: how likely an item of the own history is next, learned by its age and its count there.

The history itself is an argument, so whoever has it (a worker reads it from the feature store) can rank by it; what is
learned is one small table shared by everybody.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.fast_memory.decay import DAY_MS, HOUR_MS
from learners.histories import Past

Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.int64]

AGES_MS = np.array(
    [HOUR_MS // 12, HOUR_MS // 2, 6 * HOUR_MS, DAY_MS, 4 * DAY_MS, 10 * DAY_MS, 20 * DAY_MS, 45 * DAY_MS], np.int64
)
MOST_COUNTED = 3
BUCKETS = (len(AGES_MS) + 1) * MOST_COUNTED
_PRIOR_EXPOSURES = 200.0
_PRIOR_CHANCE = 0.002


class Met(NamedTuple):
    """What a history holds.

    Args:
        items: Distinct item indexes, the newest first, int64 [n].
        buckets: Age and count of each, int64 [n].
    """

    items: Indexes
    buckets: Indexes


class Repeats:
    """Chance of a repeat by time since the item was last met and how often it was, learned from every interaction.

    >>> repeats = Repeats()
    >>> met = met_in(Past(np.array([5, 6]), np.array([0, 0])), now_ms=0)
    >>> met.items.tolist(), [f"{chance:.4f}" for chance in repeats.chances(met)]
    ([6, 5], ['0.0020', '0.0020'])
    >>> repeats.observe(5, met)
    >>> [f"{chance:.4f}" for chance in repeats.chances(met)]
    ['0.0069', '0.0069']
    """

    def __init__(self) -> None:
        self.exposed = np.full(BUCKETS, _PRIOR_EXPOSURES)
        self.repeated = np.full(BUCKETS, _PRIOR_EXPOSURES * _PRIOR_CHANCE)

    def observe(self, item_index: int, met: Met) -> None:
        """Count every item of the history as a chance to repeat, and the one that was taken."""
        if len(met.items):
            self.exposed += np.bincount(met.buckets, minlength=BUCKETS)
            self.repeated[met.buckets[met.items == item_index]] += 1

    def chances(self, met: Met) -> Floats:
        """Return the chance of each item of the history to be next, [n]."""
        chances: Floats = (self.repeated[met.buckets] / self.exposed[met.buckets]).astype(np.float32)
        return chances

    def get_state(self) -> dict[str, Any]:
        return {"exposed": self.exposed.copy(), "repeated": self.repeated.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.exposed = np.array(state["exposed"], np.float64)
        self.repeated = np.array(state["repeated"], np.float64)


def met_in(past: Past, now_ms: int) -> Met:
    """Return the distinct items of a history with their age and count.

    >>> met_in(Past(np.array([4, 9, 4]), np.array([0, 0, 0])), now_ms=1).items.tolist()
    [4, 9]
    """
    counts: dict[int, int] = {}
    for item in reversed(past.items.tolist()):
        counts[item] = counts.get(item, 0) + 1
    newest: dict[int, int] = dict(zip(past.items.tolist(), past.times_ms.tolist(), strict=True))  # the last one wins
    items = np.fromiter(counts, np.int64, len(counts))
    times = np.fromiter(map(newest.__getitem__, counts), np.int64, len(counts))
    met = np.minimum(np.fromiter(counts.values(), np.int64, len(counts)), MOST_COUNTED)
    return Met(items, np.searchsorted(AGES_MS, now_ms - times, side="right") * MOST_COUNTED + met - 1)


def sequel(past: Past, *, steps: int = 3, reach: int = 5, decay: float = 0.6) -> dict[int, float]:
    """Return what followed last time the newest items were met in this very history, item index -> weight.

    Args:
        past: The history.
        steps: Newest interactions to look up earlier in the history.
        reach: Followers to read at the place found.
        decay: Each step and each follower further weighs this much less.

    >>> sequel(Past(np.array([1, 2, 3, 1]), np.zeros(4, np.int64)), steps=1)
    {2: 0.6, 3: 0.36}
    """
    items = past.items.tolist()
    last = len(items) - 1
    weights: dict[int, float] = {}
    for step in range(min(steps, last)):
        item = items[last - step]
        for place in range(last - step - 1, -1, -1):
            if items[place] == item:
                for follower in range(place + 1, min(place + 1 + reach, last - step)):
                    weight = decay ** (step + follower - place)
                    weights[items[follower]] = weights.get(items[follower], 0.0) + weight
                break
    return weights
