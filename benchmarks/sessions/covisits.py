"""Which items are clicked in one session: counts that fade with the periods, and with the clicks between two items."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from benchmarks.sessions.data import Ints, Questions, Sessions

MOST_LAG = 10  # clicks apart; what lies farther apart counts for nothing even with a slow decay


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of different items in one session.

    Args:
        earlier: [P].
        later: [P].
        lags: How many clicks later, at least 1, [P].
    """

    earlier: Ints
    later: Ints
    lags: Ints


def pairs(sessions: Sessions) -> Pairs:
    """Return all pairs of different items at most `MOST_LAG` clicks apart.

    >>> found = pairs(Sessions(np.array([1, 2, 1, 3]), np.array([0, 3, 4])))
    >>> list(zip(found.earlier.tolist(), found.later.tolist(), found.lags.tolist()))
    [(1, 2, 1), (2, 1, 1)]
    """
    owners, items = sessions.owners(), sessions.items
    earlier, later, lags = [], [], []
    for lag in range(1, MOST_LAG + 1):
        places = np.flatnonzero((owners[:-lag] == owners[lag:]) & (items[:-lag] != items[lag:]))
        earlier.append(items[places])
        later.append(items[places + lag])
        lags.append(np.full(len(places), lag))
    return Pairs(np.concatenate(earlier), np.concatenate(later), np.concatenate(lags))


class FadingCounts:
    """A square matrix of counts, [N+1, N+1]; what it held fades when a period is added.

    Args:
        decay: Share of a count that is left after one period, in (0, 1].
    """

    def __init__(self, *, decay: float) -> None:
        self.decay = decay
        self.matrix = sp.csr_matrix((1, 1), dtype=np.float32)

    def add(self, rows: Ints, columns: Ints, values: np.ndarray, *, items: int) -> None:
        """Add a period's counts; `items` is N from now on."""
        self.matrix.resize((items + 1, items + 1))
        shape = self.matrix.shape
        self.matrix = self.matrix * np.float32(self.decay) + sp.csr_matrix(
            (values.astype(np.float32), (rows, columns)), shape=shape
        )


def rows_of(asked: Questions, *, decay: float, items: int) -> sp.csr_matrix:
    """Return histories as rows [Q, N+1]: an item's weight is `decay` to the power of the clicks since, summed.

    >>> one = Questions(np.array([[2, 1, 2]]), np.array([3]), np.array([9]), np.array([0]))
    >>> rows_of(one, decay=0.5, items=2).toarray().tolist()
    [[0.0, 0.5, 1.25]]
    """
    since = asked.lengths[:, None] - 1 - np.arange(asked.histories.shape[1])
    rows, places = np.nonzero(since >= 0)
    values = (decay ** since[rows, places]).astype(np.float32)
    return sp.csr_matrix((values, (rows, asked.histories[rows, places])), shape=(len(asked), items + 1))


def scaled(matrix: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """Return a matrix with each row multiplied by a number of its own.

    >>> scaled(sp.csr_matrix(np.eye(2, dtype=np.float32)), np.array([2, 3])).toarray().tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    values = matrix.data * np.repeat(rows.astype(np.float32), np.diff(matrix.indptr))
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def as_chances(matrix: sp.csr_matrix, *, shrink: float) -> sp.csr_matrix:
    """Return counts divided by their row's sum plus `shrink`: what is seldom seen is little trusted.

    >>> as_chances(sp.csr_matrix(np.array([[3.0, 1.0]], np.float32)), shrink=4.0).toarray().tolist()
    [[0.375, 0.125]]
    """
    return scaled(matrix, 1 / (np.asarray(matrix.sum(axis=1)).ravel() + shrink))
