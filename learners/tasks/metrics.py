"""Metrics by name, over arrays of what was predicted and what was right."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.multitask.quality import auc as area

Floats = npt.NDArray[np.floating[Any]]
_TOP = 10
_LEAST_CHANCE = 1e-7


def accuracy(chances: Floats, labels: Floats) -> float:
    """Share of examples whose likeliest class is the right one."""
    return float((chances.argmax(axis=1) == labels).mean())


def log_loss(chances: Floats, labels: Floats) -> float:
    """Mean of minus the logarithm of the right class's chance."""
    right = chances[np.arange(len(labels)), labels.astype(int)]
    return float(-np.log(np.clip(right, _LEAST_CHANCE, 1.0)).mean())


def macro_f1(chances: Floats, labels: Floats) -> float:
    """Mean over classes, of those that occur, of the harmonic mean of precision and recall."""
    guessed, scores = chances.argmax(axis=1), []
    for label in np.unique(labels):
        hits = int(((guessed == label) & (labels == label)).sum())
        scores.append(2 * hits / max(int((guessed == label).sum() + (labels == label).sum()), 1))
    return float(np.mean(scores))


def auc(chances: Floats, labels: Floats) -> float:
    """Chance that an example of the last class is above one of another; 0.5 where only one of the two occurs."""
    positive = labels == chances.shape[1] - 1
    return area(chances[:, -1], positive) if 0 < positive.sum() < len(positive) else 0.5


def average_precision(chances: Floats, labels: Floats) -> float:
    """Mean precision at each example of the last class, from the likeliest on; 0 where there is none.

    >>> average_precision(np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]), np.array([1.0, 0.0, 1.0])).__round__(3)
    0.833
    """
    order = np.argsort(-chances[:, -1], kind="stable")
    positive = labels[order] == chances.shape[1] - 1
    if not positive.any():
        return 0.0
    precision = np.cumsum(positive) / np.arange(1, len(positive) + 1)
    return float(precision[positive].mean())


def rmse(scores: Floats, labels: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((scores.astype(np.float64) - labels) ** 2)))


def mae(scores: Floats, labels: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(scores.astype(np.float64) - labels).mean())


def spearman(scores: Floats, labels: Floats) -> float:
    """Correlation of ranks, ties at their mean; 0 where nothing varies."""
    left, right = _ranks(scores), _ranks(labels)
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def ndcg_10(scores: Floats, labels: Floats, groups: npt.NDArray[np.integer[Any]]) -> float:
    """Mean over groups of the ten best's discounted gain, over that of the best order.

    Gain is 2^label - 1. Of equal scores the worse one is in front, so that a constant is worth nothing. Groups in
    which nothing is worth anything are left out.

    >>> labels, groups = np.array([3.0, 1.0, 2.0, 2.0]), np.array([0, 0, 1, 1])
    >>> ndcg_10(np.array([0.1, 0.9, 0.0, 0.0]), labels, groups).__round__(3)
    0.855
    """
    return float(np.mean(gains_by_group(scores, labels, groups) or [0.0]))


def gains_by_group(scores: Floats, labels: Floats, groups: npt.NDArray[np.integer[Any]]) -> list[float]:
    """Return each group's NDCG@10, in the order of the groups' numbers."""
    found = []
    order = np.lexsort((labels, -scores, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        gains = 2.0 ** labels[order[start:end]] - 1.0
        discounts = 1 / np.log2(np.arange(2, min(len(gains), _TOP) + 2))
        best = np.sort(gains)[::-1][:_TOP] @ discounts
        if best > 0:
            found.append(float(gains[:_TOP] @ discounts / best))
    return found


def measure(
    kind: str, predicted: Floats, labels: Floats, lefts: Sequence[str] = (), *, classes: int = 0
) -> dict[str, float]:
    """Return every metric of a kind; empty where there is no example.

    Args:
        kind: Of the task.
        predicted: Chances [n, C] or numbers [n].
        labels: What was right, [n].
        lefts: Of a pair: the left texts.
        classes: C, of `classify`.
    """
    if not len(labels):
        return {}
    if kind == "classify":
        found = {name: metric(predicted, labels) for name, metric in CLASSIFY_METRICS.items()}
        two = {name: metric(predicted, labels) for name, metric in BINARY_METRICS.items()} if classes == 2 else {}
        return found | two
    numbers = {name: metric(predicted, labels) for name, metric in SCORE_METRICS.items()}
    if kind == "pair":
        _, groups = np.unique(np.array(lefts, dtype=object).astype(str), return_inverse=True)
        numbers["ndcg_10"] = ndcg_10(predicted, labels, groups)
    return numbers


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (ends - (counts - 1) / 2.0)[inverse]
    return ranks


CLASSIFY_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "accuracy": accuracy,
    "log_loss": log_loss,
    "macro_f1": macro_f1,
}
BINARY_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {"auc": auc, "average_precision": average_precision}
SCORE_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {"rmse": rmse, "mae": mae, "spearman": spearman}
PRIMARY: Mapping[str, str] = {"classify": "accuracy", "score": "rmse", "pair": "ndcg_10"}
