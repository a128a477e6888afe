"""Prototypes: a few vectors that stand for many."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MOST_STEPS = 20


def prototypes(vectors: Floats, k: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return centres of up to k groups [k', D] and the group of each vector [n]; the same for the same input.

    Groups are begun at the vector nearest to the mean and then, one by one, at the one farthest from all begun so far.

    Args:
        vectors: [n, D], at least one.
        k: Most groups; at least 1. Fewer come where vectors repeat.

    >>> centres, groups = prototypes(np.array([[0.0], [0.2], [9.0]], dtype=np.float32), 2)
    >>> centres[:, 0].tolist(), groups.tolist()
    ([0.10000000149011612, 9.0], [0, 0, 1])

    Source: Lloyd, "Least squares quantization in PCM", 1982; begun as Gonzalez, "Clustering to minimize the maximum
        intercluster distance", 1985.
    """
    centres = _begun(vectors.astype(np.float64), k)
    groups = _nearest(vectors, centres)
    for _ in range(_MOST_STEPS):
        for group in range(len(centres)):
            if (members := vectors[groups == group]).size:
                centres[group] = members.mean(axis=0)
        moved = _nearest(vectors, centres)
        if np.array_equal(moved, groups):
            break
        groups = moved
    return centres.astype(np.float32), groups


def _begun(vectors: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    first = int(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).argmin())
    chosen = [first]
    apart = ((vectors - vectors[first]) ** 2).sum(axis=1)
    while len(chosen) < k and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
    return vectors[chosen]


def _nearest(vectors: Floats, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    # |v - c|^2 without its constant |v|^2
    nearest: npt.NDArray[np.int64] = (-2 * vectors.astype(np.float64) @ centres.T + (centres**2).sum(axis=1)).argmin(
        axis=1
    )
    return nearest
