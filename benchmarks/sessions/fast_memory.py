"""The fast memory of sessions: cheap experts on counts, without a gradient, that say what is clicked next."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.sessions.covisits import FadingCounts, Pairs, as_chances, pairs, rows_of, scaled
from benchmarks.sessions.data import Questions, Sessions
from benchmarks.sessions.opinions import Floats, Opinions
from benchmarks.sessions.spectral import Vectors, spectral_vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """How the fast memory counts; every value was chosen on updates 1 to 4.

    Args:
        counts_decay: What a period leaves of the counts of transitions and neighbours.
        together_decay: The same of the counts that the spectral vectors are made of; they forget slower.
        popularity_decay: The same of popularity, which forgets fastest.
        lag_decay: Of transitions, per click between two items.
        together_lag_decay: The same for the spectral vectors.
        shrink: Counts that a transition row needs to be half trusted.
        history_decay: Of a click in the history, per later click, for transitions and the spectral vectors.
        neighbour_history_decay: The same for the search of neighbours.
        neighbour_length_power: How much a long past session is marked down.
        neighbour_power: A neighbour's weight is its likeness to this power.
        rank: D of the spectral vectors.
        spectral_shrink: See `spectral_vectors`.
        transition_floor: A chance at which a transition begins to count.
        neighbour_floor: The same for neighbours, as a share of the best item's.
    """

    counts_decay: float = 0.9
    together_decay: float = 0.97
    popularity_decay: float = 0.3
    lag_decay: float = 0.8
    together_lag_decay: float = 0.4
    shrink: float = 0.5
    history_decay: float = 0.7
    neighbour_history_decay: float = 0.8
    neighbour_length_power: float = 0.5
    neighbour_power: float = 2.0
    rank: int = 128
    spectral_shrink: float = 1.0
    transition_floor: float = 1e-3
    neighbour_floor: float = 1e-2


class FastMemory:
    """Counts of all periods so far; `learn` adds one, `opinions` answers from what was added.

    Args:
        config: See `MemoryConfig`.

    Source: Ludewig & Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 28, 2018 (neighbours
    with weights that fade along the session); Garg et al., "Sequence and Time Aware Neighborhood for Session-based
    Recommendations: STAN", SIGIR 2019 (neighbours that fade with their age).
    """

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config
        self.items = 0
        self._known_before = 0
        self._forward = FadingCounts(decay=config.counts_decay)
        self._next = FadingCounts(decay=config.counts_decay)
        self._together = FadingCounts(decay=config.together_decay)
        self._popularity: npt.NDArray[np.float64] = np.zeros(1)
        self._past: list[Sessions] = []
        self._ready = False
        self._vectors: Vectors = np.zeros((1, config.rank), np.float32)

    def learn(self, sessions: Sessions, *, items: int) -> None:
        """Add a period; `items` is how many are known after it."""
        config = self.config
        self._known_before, self.items = self.items, items
        found = pairs(sessions)
        self._add(self._forward, found, config.lag_decay)
        self._add(self._together, found, config.together_lag_decay)
        direct = found.lags == 1
        ones = np.ones(int(direct.sum()))
        self._next.add(found.earlier[direct], found.later[direct], ones, items=items)
        counts = np.bincount(sessions.items, minlength=items + 1)
        self._popularity = counts + config.popularity_decay * np.pad(
            self._popularity, (0, items + 1 - len(self._popularity))
        )
        self._past.append(sessions)
        self._ready = False

    @property
    def vectors(self) -> Vectors:
        """Spectral item vectors, row 0 for padding, [N+1, D]."""
        self.prepare()
        return self._vectors

    def opinions(self, asked: Questions, *, model: Floats | None = None) -> Opinions:
        """Return what each expert says to some questions, and with them the shared model's scores [Q, N+1]."""
        self.prepare()
        config = self.config
        history = rows_of(asked, decay=config.history_decay, items=self.items)
        last = rows_of(asked.newest(), decay=1.0, items=self.items)
        chances = {
            "next": last @ self._next_chances,
            "after": history @ self._after_chances,
            "before": history @ self._before_chances,
        }
        sparse = {name: _counting_from(config.transition_floor, matrix) for name, matrix in chances.items()}
        sparse["neighbours"] = _counting_from(config.neighbour_floor, self._neighbours(asked))
        return Opinions(
            asked,
            sparse=sparse,
            session_vectors={"spectral": _unit(history @ self._vectors), "spectral_last": last @ self._vectors},
            item_vectors=self._vectors,
            items={"popularity": self._log_popularity, "new": self._new},
            model=model,
        )

    def _add(self, counts: FadingCounts, found: Pairs, lag_decay: float) -> None:
        counts.add(found.earlier, found.later, lag_decay ** (found.lags - 1), items=self.items)

    def prepare(self) -> None:
        """Make the counts ready to answer, unless they are; `opinions` does so by itself."""
        if self._ready:
            return
        config = self.config
        self._next_chances = as_chances(self._next.matrix, shrink=config.shrink)
        self._after_chances = as_chances(self._forward.matrix, shrink=config.shrink)
        self._before_chances = as_chances(self._forward.matrix.T.tocsr(), shrink=config.shrink)
        together = (self._together.matrix + self._together.matrix.T).tocsr()
        self._vectors = spectral_vectors(
            together, rank=config.rank, shrink=config.spectral_shrink, power=0.5, stretch=0.5
        )
        shares = self._popularity / self._popularity.sum()
        self._log_popularity = np.log1p(shares / 1e-6).astype(np.float32)
        self._new = (np.arange(self.items + 1) > self._known_before).astype(np.float32) * (self._known_before > 0)
        self._prepare_neighbours()
        self._ready = True

    def _prepare_neighbours(self) -> None:
        """Past sessions as a matrix [S, N+1] of which items they hold, once for the search and once for the answer."""
        counts = [len(past) for past in self._past]
        sessions = sum(counts)
        items = np.concatenate([past.items for past in self._past])
        owners = np.repeat(np.arange(sessions), np.concatenate([past.lengths for past in self._past]))
        held = sp.csr_matrix((np.ones(len(items), np.float32), (owners, items)), shape=(sessions, self.items + 1))
        held.data[:] = 1  # a repeat counts once
        rarity = np.log(sessions / (np.bincount(held.indices, minlength=self.items + 1) + 1)).astype(np.float32)
        lengths = np.maximum(np.diff(held.indptr), 1)
        self._rarity = np.maximum(rarity, 0)
        self._search = scaled(held, lengths**-self.config.neighbour_length_power).T.tocsr()
        ages = len(counts) - 1 - np.repeat(np.arange(len(counts)), counts)
        self._answers = scaled(held, self.config.counts_decay**ages)

    def _neighbours(self, asked: Questions) -> sp.csr_matrix:
        """Return what alike past sessions hold, [Q, N+1]; the best item of each row has 1."""
        query = rows_of(asked, decay=self.config.neighbour_history_decay, items=self.items)
        query = query.multiply(self._rarity[None]).tocsr().astype(np.float32)
        alike = query @ self._search
        alike.data **= np.float32(self.config.neighbour_power)
        found = alike @ self._answers
        best = found.max(axis=1).toarray().ravel()
        return scaled(found, 1 / np.maximum(best, 1e-9))


def _counting_from(floor: float, matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return log(1 + x / floor): a log that is 0 where nothing was counted, so that it stays sparse."""
    return sp.csr_matrix((np.log1p(matrix.data / floor), matrix.indices, matrix.indptr), shape=matrix.shape)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return unit
