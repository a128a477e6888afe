"""Chances that mean what they say: log odds fitted to held-out outcomes, and how far off they are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 50
_RIDGE = 1e-6  # keeps a fit on one class, or on equal log odds, finite


@dataclass(frozen=True, slots=True)
class Calibration:
    """p = sigmoid(slope * log odds + bend * log(1 + odds) + shift).

    Args:
        slope: 1 / temperature; how fast the log odds rise where the event is unlikely.
        shift: 0 for a mere temperature.
        bend: How much faster they rise where it is likely; 0 is a straight line.

    >>> Calibration().chances(np.array([0.0])).tolist()
    [0.5]
    """

    slope: float = 1.0
    shift: float = 0.0
    bend: float = 0.0

    def chances(self, logits: npt.NDArray[np.floating]) -> Floats:
        """Return calibrated chances, of the shape of `logits`."""
        given = np.asarray(logits, dtype=np.float64)
        return sigmoid(self.slope * given + self.bend * np.logaddexp(0.0, given) + self.shift)

    @classmethod
    def platt(cls, logits: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_]) -> "Calibration":
        """Fit slope and shift to held-out outcomes; nothing held out changes nothing.

        >>> odds = np.repeat([0.0, 2.0], 100)  # said .5 and .88; really .1 and .5
        >>> fitted = Calibration.platt(odds, np.tile(np.arange(100), 2) < np.repeat([10, 50], 100))
        >>> fitted.chances(np.array([0.0, 2.0])).round(3).tolist()
        [0.1, 0.5]

        Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
        """
        return cls(*_newton(np.stack([logits.ravel(), np.ones(logits.size)], axis=1), outcomes.ravel(), start=(1, 0)))

    @classmethod
    def beta(cls, logits: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_]) -> "Calibration":
        """Fit slope, bend and shift to held-out outcomes; a greater chance never becomes the lesser, unless all fall.

        A head that learns through a product of chances bends away from the straight line that `platt` fits.

        >>> odds = np.repeat([-4.0, 0.0, 4.0], 100)  # said .02, .5 and .98; really .1, .2 and .9
        >>> happened = np.tile(np.arange(100), 3) < np.repeat([10, 20, 90], 100)
        >>> Calibration.beta(odds, happened).chances(np.array([-4.0, 0.0, 4.0])).round(3).tolist()
        [0.1, 0.2, 0.9]

        Source: Kull, Silva Filho & Flach, "Beta calibration", AISTATS 2017: log odds of a * log p - b * log(1 - p) + c.
        """
        given = logits.ravel().astype(np.float64)
        above = np.logaddexp(0.0, given)  # -log(1 - p)
        parts = {"low": given - above, "high": above, "one": np.ones_like(given)}  # low: log p
        low, high, shift = _newton(np.stack(list(parts.values()), axis=1), outcomes.ravel(), start=(1, 1, 0))
        if low >= 0 and high >= 0:
            return cls(slope=low, shift=shift, bend=high - low)
        kept = "high" if low < 0 else "low"  # as in the paper: the one that falls is left out, the other fitted again
        weight, shift = _newton(np.stack([parts[kept], parts["one"]], axis=1), outcomes.ravel(), start=(1, 0))
        if weight < 0:
            return cls.platt(logits, outcomes)
        return cls(slope=weight, shift=shift, bend=-weight) if kept == "low" else cls(0.0, shift, weight)

    @classmethod
    def temperature(cls, logits: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_]) -> "Calibration":
        """Fit the slope alone.

        Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
        """
        return cls(*_newton(logits.reshape(-1, 1), outcomes.ravel(), start=(1,)))


def _newton(features: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_], start: tuple[int, ...]) -> list[float]:
    """Fit a logistic regression by Newton's method; return its weights. A slight ridge keeps them finite."""
    x, origin = features.astype(np.float64), np.array(start, dtype=np.float64)
    weights = origin.copy()
    if not len(x):
        return list(weights)
    for _ in range(_STEPS):
        chances = sigmoid(x @ weights)
        gradient = x.T @ (chances - outcomes) / len(x) + _RIDGE * (weights - origin)
        curvature = (x * (chances * (1 - chances))[:, None]).T @ x / len(x) + _RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))  # at most 1 a step: far out Newton overshoots
        if np.abs(step).max() < 1e-9:
            break
    return [float(weight) for weight in weights]


def expected_calibration_error(
    chances: npt.NDArray[np.floating], outcomes: npt.NDArray[np.generic], *, bins: int = 10
) -> float:
    """Return the mean distance of what was said from what was so, over bins of equally many, ordered by what was said.

    Equally many, because bins of equal width would put all rare events into the first one.

    Args:
        chances: What was said, in [0, 1].
        outcomes: What happened (bool), or, where it is known, the true chance.
        bins: At most so many.

    Raises:
        ValueError: If nothing is to be judged.

    >>> said, so = np.array([0.2, 0.2, 0.8, 0.8]), np.array([False, True, True, True])
    >>> round(expected_calibration_error(said, so, bins=2), 3)  # (|.2 - .5| + |.8 - 1|) / 2
    0.25

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; bins of equal
    mass as in Nguyen & O'Connor, "Posterior calibration and exploratory analysis", EMNLP 2015.
    """
    if not chances.size:
        raise ValueError("chances are empty; expected at least one")
    order = np.argsort(chances.ravel(), kind="stable")
    said, so = chances.ravel()[order].astype(np.float64), outcomes.ravel()[order].astype(np.float64)
    parts = np.array_split(np.arange(len(said)), min(bins, len(said)))
    return float(sum(abs(said[part].mean() - so[part].mean()) * len(part) for part in parts) / len(said))


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + e^-x), without overflow.

    >>> sigmoid(np.array([-1e4, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(x))
    chances: Floats = np.where(x >= 0, 1.0, small) / (1 + small)
    return chances
