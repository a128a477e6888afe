"""Intervals by the bootstrap over users: people are drawn again, each with everything they did."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CHUNK = 50  # resamples held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and where it lies with 95 % confidence; NaN where there is nothing to divide by."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure as each user's share of it: the sum over users of `top` by that of `bottom`.

    Args:
        top: Per user [U].
        bottom: Per user [U].
    """

    top: Floats
    bottom: Floats


def intervals(ratios: dict[str, Ratio], *, seed: int, resamples: int = 1_000) -> dict[str, Interval]:
    """Return every figure with its interval.

    Args:
        ratios: By name; all over the same users.
        seed: Source of the resamples: the same seed draws the same people.
        resamples: How often users are drawn again; at least 2.

    >>> alike = Ratio(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> intervals({"half": alike}, seed=0)["half"]
    Interval(value=0.5, low=0.5, high=0.5)

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals, clustered by user.
    """
    drawn = _drawn(ratios, seed=seed, resamples=resamples)
    return {name: _interval(_value(ratio), drawn[name]) for name, ratio in ratios.items()}


def differences(
    ratios: dict[str, Ratio], rivals: dict[str, Ratio], *, seed: int, resamples: int = 1_000
) -> dict[str, Interval]:
    """Return how much higher each figure is than the rival's, paired: both see the same people drawn.

    >>> one, other = ({"x": Ratio(np.array([a, a]), np.ones(2))} for a in (3.0, 1.0))
    >>> differences(one, other, seed=0)["x"].value
    2.0
    """
    ours, theirs = (_drawn(each, seed=seed, resamples=resamples) for each in (ratios, rivals))
    return {
        name: _interval(_value(ratios[name]) - _value(rivals[name]), ours[name] - theirs[name])
        for name in ratios
        if name in rivals
    }


def _drawn(ratios: dict[str, Ratio], *, seed: int, resamples: int) -> dict[str, Floats]:
    if not ratios:
        return {}
    tops = np.stack([ratio.top for ratio in ratios.values()], axis=1)  # [U, M]
    bottoms = np.stack([ratio.bottom for ratio in ratios.values()], axis=1)
    parts = []
    for times in _times(len(tops), seed=seed, resamples=resamples):
        above, below = times @ tops, times @ bottoms  # [chunk, M]
        parts.append(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))
    return dict(zip(ratios, np.concatenate(parts).T, strict=True))


def _times(users: int, *, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each user is drawn, [<= chunk, U]."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        yield rng.multinomial(users, np.full(users, 1 / users), size=rows).astype(np.float64)


def _value(ratio: Ratio) -> float:
    bottom = float(ratio.bottom.sum())
    return float(ratio.top.sum()) / bottom if bottom else float("nan")


def _interval(value: float, drawn: Floats) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high))
