"""Herding: few moments whose mean is the mean of all."""

from typing import Any

import numpy as np
import numpy.typing as npt


def herd(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.integer[Any]], *, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return which moments to keep, ascending.

    Each label gets places in proportion to how often it occurs (largest remainders first, ties by chance), and fills
    them one by one with the moment that brings the mean of those kept closest to the mean of all of that label.

    Args:
        features: One vector per moment [n, D].
        labels: One label per moment [n].
        count: How many to keep; at most n are.
        rng: Breaks ties between labels.

    >>> features = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    >>> herd(features, np.array([3, 3, 3, 7]), count=3, rng=np.random.default_rng(0)).tolist()
    [0, 1, 3]

    Source: Mi et al., "ADER", RecSys 2020, algorithm 1; Welling, "Herding Dynamical Weights to Learn", ICML 2009.
    """
    _, groups, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept: list[int] = []
    for group, room in enumerate(_shares(counts, count=min(count, len(labels)), rng=rng)):
        kept.extend(_closest(features, np.flatnonzero(groups == group), room=room) if room else [])
    return np.array(sorted(kept), np.int64)


def _shares(counts: npt.NDArray[np.integer[Any]], *, count: int, rng: np.random.Generator) -> list[int]:
    """Divide `count` places among groups in proportion to their size.

    >>> _shares(np.array([7, 2, 1]), count=3, rng=np.random.default_rng(0))
    [2, 1, 0]
    """
    if not counts.sum():
        return []
    exact = count * counts / counts.sum()
    room = np.floor(exact).astype(int)
    order = rng.permutation(len(counts))
    first = order[np.argsort(-(exact - room)[order], kind="stable")]
    room[first[: count - int(room.sum())]] += 1
    return [int(each) for each in np.minimum(room, counts)]


def _closest(features: npt.NDArray[np.float32], members: npt.NDArray[np.int64], *, room: int) -> list[int]:
    """Return the members that herding keeps, at most `room`, in the order it picks them."""
    vectors = features[members].astype(np.float64)
    mean, total = vectors.mean(axis=0), np.zeros(features.shape[1])
    free, picked = np.ones(len(members), np.bool_), []
    for number in range(1, min(room, len(members)) + 1):
        distance = np.linalg.norm(mean - (total + vectors) / number, axis=1)
        best = int(np.where(free, distance, np.inf).argmin())
        free[best] = False
        total += vectors[best]
        picked.append(int(members[best]))
    return picked
