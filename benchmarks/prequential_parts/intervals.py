"""Quality with intervals: people, not interactions, are drawn again, since what one person does is not independent."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.protocol import UNSCORED

Floats = npt.NDArray[np.float64]
TOP = 10
MEASURES = ("hit_rate_10", "ndcg_10")


@dataclass(frozen=True)
class Interval:
    """A figure and where 95 % of its bootstrap lies."""

    value: float
    low: float
    high: float


def gains(ranks: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Return what every rank is worth, by measure, [T].

    >>> {name: values.tolist() for name, values in gains(np.array([1, 3, 11])).items()}
    {'hit_rate_10': [1.0, 1.0, 0.0], 'ndcg_10': [1.0, 0.5, 0.0]}
    """
    hit = (ranks >= 1) & (ranks <= TOP)
    return {
        "hit_rate_10": hit.astype(np.float64),
        "ndcg_10": np.where(hit, 1 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0),
    }


def mean_gains(seeds: list[npt.NDArray[np.int64]]) -> dict[str, Floats]:
    """Return the mean over seeds of what every rank is worth, by measure, [T]."""
    each = [gains(ranks) for ranks in seeds]
    return {name: np.mean([found[name] for found in each], axis=0) for name in MEASURES}


class Bootstrap:
    """Draw people with replacement, the same draws for every figure, so that differences are paired.

    Args:
        users: Whose each interaction is, 0..U-1, [T].
        draws: How many times.
        seed: Source of the draws.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals).

    >>> always = Bootstrap(np.array([0, 0, 1, 2]), draws=50).mean(np.ones(4))
    >>> always.value, always.low, always.high
    (1.0, 1.0, 1.0)
    """

    def __init__(self, users: npt.NDArray[np.int32], *, draws: int = 1_000, seed: int = 0) -> None:
        self.users, self.people = users, int(users.max()) + 1
        rng = np.random.default_rng(seed)
        chances = np.full(self.people, 1 / self.people)
        self._times = rng.multinomial(self.people, chances, size=draws).astype(np.float32)  # [draws, U]

    def mean(self, values: Floats, scored: npt.NDArray[np.bool_] | None = None) -> Interval:
        """Return the mean over interactions.

        Args:
            values: Of each interaction, such as its gain or a difference of two gains, [T].
            scored: Which of them count, [T]; None: all.
        """
        counted = np.ones(len(values)) if scored is None else scored.astype(np.float64)
        sums = np.bincount(self.users, values * counted, minlength=self.people)
        counts = np.bincount(self.users, counted, minlength=self.people)
        drawn = (self._times @ sums.astype(np.float32)) / np.maximum(self._times @ counts.astype(np.float32), 1)
        low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
        return Interval(float(sums.sum() / max(1.0, counts.sum())), low, high)


def scored_by(*contenders: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which interactions every one of some contenders was there to rank, [T].

    >>> scored_by(np.array([0, 3, 4]), np.array([1, 0, 2])).tolist()
    [False, False, True]
    """
    found: npt.NDArray[np.bool_] = np.logical_and.reduce([ranks != UNSCORED for ranks in contenders])
    return found
