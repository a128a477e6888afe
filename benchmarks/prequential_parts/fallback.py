"""What a peer that is only refitted serves where its model knows nothing: popularity, counted at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import Moment

Floats = npt.NDArray[np.float32]


class Refitted:
    """Half a contender: whoever has a history is ranked by the last fit, everybody else by popularity.

    Before the first fit everybody is. A block of moments shares one call of the model, which does not change within
    it; popularity is as of the block's beginning.

    Args:
        items: N, padding included.
    """

    block = 256

    def __init__(self, items: int) -> None:
        self.items = items
        self.fitted = 0  # items that the last fit knows, padding included
        self._counts = np.zeros(items, np.float32)

    def refit(self, past: Log) -> None:
        """Fit from scratch."""
        self.fitted = int(past.items.max()) + 1
        self.fit(past)

    def scores(self, moments: Sequence[Moment]) -> Floats:
        """Return a score of every item for every moment, [len(moments), N]."""
        scores = np.tile(self._counts, (len(moments), 1))
        known = [moment.history[moment.history < self.fitted] for moment in moments]
        places = [place for place, history in enumerate(known) if len(history)]
        if self.fitted and places:
            rows = self.predict([moments[place].user for place in places], [known[place] for place in places])
            scores[places] = rows.min(axis=1, keepdims=True)  # items that came after the fit
            scores[places, : rows.shape[1]] = rows
        return scores

    def learn(self, _moment: Moment, item: int) -> None:
        """Count it; the model itself waits for the next fit."""
        self._counts[item] += 1

    def fit(self, past: Log) -> None:
        """Learn a model of items below `fitted` from everything so far."""
        raise NotImplementedError

    def predict(self, users: list[int], histories: list[npt.NDArray[np.int32]]) -> Floats:
        """Return the model's scores for people with a history, [len(users), <= fitted]."""
        raise NotImplementedError


def counts_matrix(rows: Sequence[npt.NDArray[Any]], items: int) -> Any:
    """Return how often each row holds each item, as a SciPy CSR matrix [len(rows), items].

    >>> counts_matrix([np.array([1, 1, 2])], 4).toarray().tolist()
    [[0.0, 2.0, 1.0, 0.0]]
    """
    from scipy.sparse import csr_matrix  # noqa: PLC0415 - peers bring it along

    lengths = [len(row) for row in rows]
    places = np.repeat(np.arange(len(rows)), lengths)
    columns = np.concatenate([*rows, np.zeros(0, np.int32)])
    found = csr_matrix((np.ones(len(columns), np.float32), (places, columns)), shape=(len(rows), items))
    found.sum_duplicates()
    return found
