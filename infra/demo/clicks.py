"""Click rates with against without learning: an A/B test over visitors, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.demo.shop import Exposure

RESAMPLES = 2_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ClickTest:
    """The A/B test of the demo.

    Args:
        learned: Click rate of visitors who were shown published rankings.
        control: Click rate of visitors who were shown bestsellers.
        lift: Relative gain, learned / control - 1.
        visitors: Visitors counted, learned and control.
        shown: Places shown, learned and control.
    """

    learned: Interval
    control: Interval
    lift: Interval
    visitors: tuple[int, int]
    shown: tuple[int, int]


def compare_groups(exposures: Sequence[Exposure], *, seed: int) -> ClickTest | None:
    """Compare the click rate of the two groups; None if either saw or clicked nothing.

    First visits are left out of both groups: nobody can have a ranking yet. Visitors are resampled, not places, because
    the places that one visitor saw are not independent.

    Args:
        exposures: Lists shown, of both groups.
        seed: Of the bootstrap.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13 (percentile interval).
    """
    learned, control = (_per_visitor(exposures, is_control=group) for group in (False, True))
    if not learned[:, 0].sum() or not control[:, 1].sum():
        return None
    rng = np.random.default_rng([seed, 4])
    learned_rates, control_rates = _resample(learned, rng=rng), _resample(control, rng=rng)
    with np.errstate(divide="ignore", invalid="ignore"):
        lifts = learned_rates / control_rates - 1
    rate, base = _rate(learned), _rate(control)
    return ClickTest(
        learned=_interval(rate, learned_rates),
        control=_interval(base, control_rates),
        lift=_interval(rate / base - 1, lifts[np.isfinite(lifts)]),
        visitors=(len(learned), len(control)),
        shown=(int(learned[:, 0].sum()), int(control[:, 0].sum())),
    )


def rate_over_time(
    exposures: Sequence[Exposure], *, edges_ms: Sequence[int], is_control: bool
) -> list[tuple[int, float | None]]:
    """Click rate per time bucket, as (middle of the bucket, rate); None where nothing was shown. First visits left out.

    Args:
        exposures: Lists shown, of both groups.
        edges_ms: Bounds of the buckets, rising, one more than there are buckets.
        is_control: Which group.
    """
    chosen = [e for e in exposures if e.is_control == is_control and e.visit > 0]
    bucket = np.searchsorted(np.array(edges_ms), [e.at_ms for e in chosen], side="right") - 1
    inside = (bucket >= 0) & (bucket < len(edges_ms) - 1)
    buckets = len(edges_ms) - 1
    shown = np.bincount(bucket[inside], weights=np.array([e.shown for e in chosen])[inside], minlength=buckets)
    clicks = np.bincount(bucket[inside], weights=np.array([e.clicks for e in chosen])[inside], minlength=buckets)
    return [
        ((edges_ms[i] + edges_ms[i + 1]) // 2, float(clicks[i] / shown[i]) if shown[i] else None)
        for i in range(buckets)
    ]


def clicks_per_reason(exposures: Sequence[Exposure]) -> dict[str, int]:
    """Number of clicks on published places by the reason the ranking gave, most clicked first."""
    counts: dict[str, int] = {}
    for exposure in exposures:
        for reason in exposure.reasons:
            counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


def _per_visitor(exposures: Sequence[Exposure], *, is_control: bool) -> NDArray[np.float64]:
    """Places shown and clicked, one row per visitor: [visitors, 2]."""
    sums: dict[int, list[int]] = {}
    for exposure in exposures:
        if exposure.is_control == is_control and exposure.visit > 0:
            row = sums.setdefault(exposure.visitor, [0, 0])
            row[0] += exposure.shown
            row[1] += exposure.clicks
    return np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)


def _rate(rows: NDArray[np.float64]) -> float:
    return float(rows[:, 1].sum() / rows[:, 0].sum())


def _resample(rows: NDArray[np.float64], *, rng: np.random.Generator) -> NDArray[np.float64]:
    picks = rng.integers(len(rows), size=(RESAMPLES, len(rows)))
    sums = rows[picks].sum(axis=1)  # [resamples, 2]
    rates: NDArray[np.float64] = sums[:, 1] / np.maximum(sums[:, 0], 1)
    return rates


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))
