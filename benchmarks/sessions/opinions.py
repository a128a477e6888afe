"""What experts say to a block of questions, kept as small as each expert allows, and how opinions are put together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.sessions.data import PADDING, Ints, Questions

Floats = npt.NDArray[np.float32]

REPEATS = ("repeat_last", "repeat_before", "repeat_older")
MEMORY_EXPERTS = ("next", "after", "before", "neighbours", "spectral", "spectral_last", "popularity", "new", *REPEATS)
MODEL_EXPERTS = ("model", "model_new")
_LENGTHS = (2, 3, 4, 5, 8)  # lower bounds of the contexts but the first
CONTEXTS = len(_LENGTHS) + 1
NEVER = np.float32(-1e9)


def contexts_of(lengths: Ints) -> Ints:
    """Return the context of each history: how much is known of the session.

    >>> contexts_of(np.array([1, 2, 3, 5, 7, 8, 50])).tolist()
    [0, 1, 2, 4, 4, 5, 5]
    """
    return np.searchsorted(_LENGTHS, lengths, side="right").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Items that the history holds, each once, by how long ago it was clicked last.

    Args:
        rows: Of which question, [R].
        items: [R].
        kinds: 0 the newest click, 1 the one before, 2 older, [R].
    """

    rows: Ints
    items: Ints
    kinds: Ints


def repeats_of(asked: Questions) -> Repeats:
    """Return the items that histories hold.

    >>> one = Questions(np.array([[5, 6, 5, 7]]), np.array([4]), np.array([9]), np.array([0]))
    >>> found = repeats_of(one)
    >>> dict(zip(found.items.tolist(), found.kinds.tolist()))
    {5: 1, 6: 2, 7: 0}
    """
    since = asked.lengths[:, None] - 1 - np.arange(asked.histories.shape[1])
    rows, places = np.nonzero(since >= 0)
    items = asked.histories[rows, places]
    order = np.lexsort((since[rows, places], items, rows))
    rows, items, since_ = rows[order], items[order], since[rows, places][order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
    return Repeats(rows[first], items[first], np.minimum(since_[first], 2))


@dataclass(frozen=True, slots=True)
class Opinions:
    """Log opinions of experts on every item, up to a constant per question.

    Args:
        asked: The questions.
        sparse: Of experts that are silent (0) on most items, [Q, N+1].
        session_vectors: Of experts that answer by an inner product with `item_vectors`, [Q, D].
        item_vectors: [N+1, D].
        items: Of experts that say the same to every question, [N+1].
        model: The shared model's scores, if it was asked, [Q, N+1].
    """

    asked: Questions
    sparse: dict[str, sp.csr_matrix]
    session_vectors: dict[str, Floats]
    item_vectors: Floats
    items: dict[str, Floats]
    model: Floats | None = None
    repeats: Repeats = field(init=False)

    def __post_init__(self) -> None:
        """Find the repeats, once."""
        object.__setattr__(self, "repeats", repeats_of(self.asked))

    def combined(self, weights: dict[str, Floats]) -> Floats:
        """Return the weighted sum of opinions, [Q, N+1]; the padding item has no chance.

        Args:
            weights: Of each expert in each context, [C]; an expert that is not named stays silent.
        """
        contexts = contexts_of(self.asked.lengths)
        own = {name: weight[contexts] for name, weight in weights.items()}  # [Q] each
        silent = np.zeros(len(self.asked), np.float32)
        left = [sum_of(own.get(name, silent)[:, None] * vectors for name, vectors in self.session_vectors.items())]
        left += [own.get(name, silent)[:, None] for name in self.items]
        right = [self.item_vectors, *(values[:, None] for values in self.items.values())]
        total: Floats = np.concatenate(left, axis=1) @ np.concatenate(right, axis=1).T
        flat = total.ravel()
        for name, matrix in self.sparse.items():
            if name in own:  # no column occurs twice in a row: products of sparse matrices have summed them
                counts = np.diff(matrix.indptr)
                places = np.repeat(np.arange(len(counts)) * total.shape[1], counts) + matrix.indices
                flat[places] += matrix.data * np.repeat(own[name], counts)
        table = np.stack([own.get(name, silent) for name in REPEATS])
        total[self.repeats.rows, self.repeats.items] += table[self.repeats.kinds, self.repeats.rows]
        if self.model is not None and "model" in own:
            total += own["model"][:, None] * self.model
            new = self.items["new"]
            if "model_new" in own and new.any():
                first = int(new.argmax())  # new items have the highest indexes
                total[:, first:] += own["model_new"][:, None] * self.model[:, first:]
        total[:, PADDING] = NEVER
        return total

    def at(self, items: Ints, names: tuple[str, ...]) -> Floats:
        """Return single opinions on some items of each question, [Q, C, K].

        Args:
            items: [Q, C].
            names: The experts, K of them.
        """
        return np.stack([self._of(name, items) for name in names], axis=-1)

    def _of(self, name: str, items: Ints) -> Floats:
        rows = np.arange(len(items))[:, None]
        if name in self.sparse:
            found: Floats = self.sparse[name].toarray()[rows, items]
        elif name in self.session_vectors:
            found = np.einsum("qd,qcd->qc", self.session_vectors[name], self.item_vectors[items])
        elif name in self.items:
            found = self.items[name][items]
        elif name in REPEATS:
            kinds = np.full((len(items), self.item_vectors.shape[0]), -1, np.int8)
            kinds[self.repeats.rows, self.repeats.items] = self.repeats.kinds
            found = (kinds[rows, items] == REPEATS.index(name)).astype(np.float32)
        else:
            assert self.model is not None
            found = self.model[rows, items]
            if name == "model_new":
                found = found * self.items["new"][items]
        return found.astype(np.float32)


def sum_of(parts: Iterable[Any]) -> Any:
    """Return the sum of at least one array or sparse matrix."""
    first, *others = parts
    for other in others:
        first = first + other
    return first
