"""Item vectors from counts of co-visitation, without a gradient: the largest eigenvectors of the normalised counts."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.sessions.covisits import scaled

Vectors = npt.NDArray[np.float32]

_EXTRA = 10  # directions beside those asked for, so that the last of them converge too
_ROUNDS = 6


def spectral_vectors(together: sp.csr_matrix, *, rank: int, shrink: float, power: float, stretch: float) -> Vectors:
    """Return an item vector of length 1 for each row of symmetric counts; an item without counts has zeros.

    The counts C become D^-power C D^-power, where D is their row sums plus `shrink`, so that popular items do not fill
    every direction; a direction's weight is its eigenvalue to the power of `stretch`.

    Args:
        together: Symmetric counts [n, n].
        rank: D, directions kept; where there are fewer items, the rest are zeros.
        shrink: Added to every row sum.
        power: Of the normalisation; 0.5 is the graph Laplacian's.
        stretch: Of the eigenvalues.

    Returns:
        [n, D].

    Source: Halko, Martinsson & Tropp, "Finding Structure with Randomness", SIAM Review 53(2), 2011, algorithm 4.4;
    Levy & Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014 (the stretch).

    >>> blocks = sp.csr_matrix(np.kron(np.eye(2), np.ones((2, 2))).astype(np.float32))
    >>> vectors = spectral_vectors(blocks, rank=2, shrink=0.0, power=0.5, stretch=0.5)
    >>> (vectors @ vectors.T).round(3).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    scale = (np.asarray(together.sum(axis=1)).ravel() + max(shrink, 1e-6)) ** -power
    normal = scaled((scaled(together, scale)).T.tocsr(), scale)
    count = together.shape[0]
    basis = np.random.default_rng(0).standard_normal((count, min(count, rank + _EXTRA))).astype(np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(normal @ basis)
    small = basis.T @ (normal @ basis)
    values, turns = np.linalg.eigh((small + small.T) / 2)
    largest = np.argsort(-values)[:rank]
    vectors = (basis @ turns[:, largest]) * np.clip(values[largest], 0, None) ** stretch
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)
    return np.pad(unit, ((0, 0), (0, rank - unit.shape[1]))).astype(np.float32)


def turned_towards(vectors: Vectors, wanted: Vectors) -> Vectors:
    """Return vectors turned (and mirrored) so that the first of them come as near as they can to those wanted.

    Two factorisations of nearly the same counts differ by a turn of all axes; a network that has learned on one set
    of axes understands the other after this.

    Args:
        vectors: [n, D].
        wanted: Of the first m of them, [m, D].

    Source: Schönemann, "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika 31, 1966.

    >>> turned_towards(np.array([[0, 1], [1, 0]], np.float32), np.array([[1, 0]], np.float32)).round(3)[0].tolist()
    [1.0, 0.0]
    """
    left, _, right = np.linalg.svd(vectors[: len(wanted)].T @ wanted)
    turned: Vectors = (vectors @ (left @ right)).astype(np.float32)
    return turned
