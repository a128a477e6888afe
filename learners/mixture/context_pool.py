"""The mixture's pool: weights by what is known of the person, where the ranking is shown, and how new an item is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.mixture.pool import LogPool, PoolConfig

Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.int64]

SURFACES = ("", "home", "category", "search", "product", "cart", "checkout", "email")
"""Where a ranking is shown or an interaction happened; the first stands for unknown and for any other."""

_PLACES = {name: place for place, name in enumerate(SURFACES)}


class Situation(NamedTuple):
    """What the weights depend on.

    Args:
        history: How much is known of the person; see `learners.mixture.pool.context_of`.
        surface: A place in `SURFACES`.
        young: Item indexes that hardly anybody has met yet, ascending.
    """

    history: int
    surface: int
    young: Indexes


class ContextPool:
    """A logarithmic opinion pool whose weights add up: the person's, the surface's and, for young items, their own.

    With o(i) for the experts' opinions of item i,
    `log p(i) = (w[history] + s[surface]) . o(i) + [i is young] (a[history] . o(i) + b[history]) + constant`.
    What situations have in common is learned in all of them; s, a and b start at zero.

    Args:
        names: The experts, K of them.
        start: w to begin with, K of them.
        contexts: C, kinds of history.
        config: See `PoolConfig`.

    Source: as `LogPool`; the sum of factors as in Rendle, "Factorization Machines", ICDM 2010, first order.

    >>> pool = ContextPool(["wise"], start=[1.0], contexts=1, config=PoolConfig())
    >>> said = np.log(np.array([[0.2, 0.8]], np.float32))
    >>> pool.combine(Situation(0, 0, np.array([1])), said).round(3).tolist() == said[0].round(3).tolist()
    True
    """

    def __init__(self, names: Sequence[str], *, start: Sequence[float], contexts: int, config: PoolConfig) -> None:
        nothing = [0.0] * len(names)
        self.people = LogPool(names, start=start, contexts=contexts, config=config)
        self.surfaces = LogPool(names, start=nothing, contexts=len(SURFACES), config=config)
        self.ages = LogPool([*names, "young"], start=[*nothing, 0.0], contexts=contexts, config=config)

    @property
    def steps(self) -> int:
        """Interactions learned from."""
        return self.people.steps

    def weights(self, situation: Situation) -> npt.NDArray[np.float64]:
        """Return the experts' weights for items that are not young, [K]."""
        weights: npt.NDArray[np.float64] = (
            self.people.weights[situation.history] + self.surfaces.weights[situation.surface]
        )
        return weights

    def combine(self, situation: Situation, opinions: Floats) -> Floats:
        """Return unnormalised log-probabilities [N] from opinions [K, N]."""
        logits: Floats = self.weights(situation).astype(np.float32) @ opinions
        if len(young := situation.young):
            logits[young] += self.ages.combine(situation.history, _and_one(opinions[:, young]))
        return logits

    def learn(self, situation: Situation, opinions: Floats, probabilities: Floats, target: int) -> None:
        """Take one step after the truth is known.

        Args:
            situation: Where the opinions were given.
            opinions: What the experts said, [K, N].
            probabilities: What the pool said, [N], summing to 1.
            target: The item that came.
        """
        gradient = (opinions @ probabilities - opinions[:, target]).astype(np.float64)
        self.people.step(situation.history, gradient)
        if situation.surface:  # the unknown surface is what the others are held against
            self.surfaces.step(situation.surface, gradient)
        if len(young := situation.young):
            said = _and_one(opinions[:, young])
            place = int(np.searchsorted(young, target))
            came = said[:, place] if place < len(young) and young[place] == target else np.float32(0)
            self.ages.step(situation.history, (said @ probabilities[young] - came).astype(np.float64))

    def rows(self) -> list[list[float]]:
        """Return all weights as rows, for the wire."""
        return [row for pool in self._pools for row in pool.weights.tolist()]

    def set_rows(self, rows: Sequence[Sequence[float]]) -> None:
        """Become what `rows` gave; tables that a record of an older learner lacks stay as they are."""
        start = 0
        for pool in self._pools:
            part = rows[start : start + len(pool.weights)]
            start += len(pool.weights)
            if len(part) == len(pool.weights):
                pool.weights = np.array(part, np.float64)

    @property
    def _pools(self) -> tuple[LogPool, LogPool, LogPool]:
        return self.people, self.surfaces, self.ages

    def get_state(self) -> dict[str, Any]:
        return {name: pool.get_state() for name, pool in zip(_TABLES, self._pools, strict=True)}

    def set_state(self, state: dict[str, Any]) -> None:
        for name, pool in zip(_TABLES, self._pools, strict=True):
            pool.set_state(state[name])


_TABLES = ("people", "surfaces", "ages")


def surface_of(name: str | None) -> int:
    """Return the place of a surface in `SURFACES`; 0 for what is not there.

    >>> surface_of("Search"), surface_of("fridge door"), surface_of(None)
    (3, 0, 0)
    """
    return 0 if name is None else _PLACES.get(name.lower(), 0)


def _and_one(opinions: Floats) -> Floats:
    """Return the opinions with a row of ones beneath: the weight of being young at all."""
    return np.concatenate([opinions, np.ones((1, opinions.shape[1]), np.float32)])
