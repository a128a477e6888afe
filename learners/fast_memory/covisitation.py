"""Which items people look at together: a bounded, decayed graph that learns from each interaction at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.errors import InvalidModelConfigError
from learners.fast_memory.decay import DAY_MS, HOUR_MS, DecayedArray
from learners.histories import Past

Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CovisitationConfig:
    """How links are made and read.

    Args:
        neighbours: M, links kept per item; the weakest makes room for a new one.
        window: Interactions back in the history that an item is linked to.
        lag_decay: A link to one interaction further back is made this much weaker, in (0, 1].
        near: The same for reading, where what comes next follows from the last few interactions, as in a shop's basket.
        wide: The same for reading, where it follows from taste, as with films; the pool learns which of both to trust.
        session_gap_ms: Interactions further apart than this are not of one visit ...
        across_visits: ... and their link weighs this much less, in [0, 1].
        half_life_ms: Links fade with this half-life.
    """

    neighbours: int = 96
    window: int = 16
    lag_decay: float = 0.8
    near: float = 0.4
    wide: float = 0.9
    session_gap_ms: int = 6 * HOUR_MS
    across_visits: float = 0.3
    half_life_ms: int = 90 * DAY_MS

    def __post_init__(self) -> None:
        """Refuse a graph that cannot hold what one interaction links."""
        if self.window < 1:
            raise InvalidModelConfigError(name="window", value=self.window, expected="at least 1")
        if self.neighbours < self.window:
            raise InvalidModelConfigError(
                name="neighbours", value=self.neighbours, expected=f"at least window={self.window}"
            )


class Covisitation:
    """Decayed co-visitation in both directions, the strongest `neighbours` links per item.

    The score of item j after history i_1, i_2, ... (newest first) is the sum over lags d of
    `decay ** d * links[i_d, j] / sqrt(seen[i_d] * seen[j])`; the same links are read with two decays.

    Args:
        config: See `CovisitationConfig`.

    Source: Deshpande & Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004,
    with decay by lag and age.
    """

    def __init__(self, config: CovisitationConfig) -> None:
        self.config = config
        self.seen = DecayedArray(half_life_ms=config.half_life_ms)
        self.links = DecayedArray(half_life_ms=config.half_life_ms, shape=(config.neighbours,))
        self.neighbours: npt.NDArray[np.int32] = np.zeros((0, config.neighbours), np.int32)  # 0: free place
        self._lags = {
            decay: decay ** np.arange(config.window, dtype=np.float32)
            for decay in (config.lag_decay, config.near, config.wide)
        }
        self._rows = np.arange(config.window)

    def reserve(self, items: int) -> None:
        """Have room for this many items."""
        self.seen.reserve(items)
        self.links.reserve(items)
        if items > len(self.neighbours):
            grown = np.zeros((len(self.links.values), self.config.neighbours), np.int32)
            grown[: len(self.neighbours)] = self.neighbours
            self.neighbours = grown

    def observe(self, item_index: int, past: Past, time_ms: int) -> Indexes:
        """Link an item with what came before it; returns the items whose links changed, itself included."""
        unit, seen_unit = self.links.unit(time_ms), self.seen.unit(time_ms)  # first: may begin an era
        self.seen.values[item_index] += np.float32(seen_unit)
        recent, weights = self._recent(past, time_ms, self.config.lag_decay)
        kept = recent != item_index
        recent, weights = recent[kept], weights[kept]
        if len(recent):
            recent, first = np.unique(recent, return_index=True)  # an item twice in the window: its nearest lag
            weights = weights[first] * np.float32(unit)
            self._link_to(recent, item_index, weights)
            self._link_from(item_index, recent, weights)
        return np.append(recent, item_index)

    def scores(self, past: Past, now_ms: int, items: int, *, decay: float | None = None) -> Floats | None:
        """Return scores [items], not negative, or None where the history says nothing.

        Args:
            past: The history.
            now_ms: Moment to rank for.
            items: N, padding included.
            decay: `near`, the default, or `wide`.
        """
        recent, weights = self._recent(past, now_ms, self.config.near if decay is None else decay)
        if not len(recent):
            return None
        unit = self.seen.unit(now_ms)
        weights = weights / np.sqrt(self.seen.values[recent] / np.float32(unit) + 1)
        strengths = self.links.values[recent] * weights[:, None]
        total = np.bincount(self.neighbours[recent].ravel(), strengths.ravel(), minlength=items)[:items]
        total[0] = 0
        scores: Floats = (total / np.sqrt(self.seen.values[:items] + 3 * unit)).astype(np.float32)
        return scores if scores.any() else None

    def links_of(self, items: Indexes) -> tuple[npt.NDArray[np.int32], Floats]:
        """Return what items are linked to: item indexes (0: nothing) and strengths, [n, M] each."""
        neighbours = np.zeros((len(items), self.config.neighbours), np.int32)
        strengths = np.zeros((len(items), self.config.neighbours), np.float32)
        known = items < len(self.neighbours)
        neighbours[known] = self.neighbours[items[known]]
        strengths[known] = self.links.values[items[known]]
        return neighbours, strengths

    def _recent(self, past: Past, now_ms: int, decay: float) -> tuple[Indexes, Floats]:
        """Return the window of the history, newest first, and what each place in it weighs."""
        lags = self._lags[decay]
        recent = past.items[: -self.config.window - 1 : -1]
        apart = now_ms - past.times_ms[: -self.config.window - 1 : -1] > self.config.session_gap_ms
        weights = np.where(apart, lags[: len(recent)] * self.config.across_visits, lags[: len(recent)])
        return recent, weights.astype(np.float32)

    def _link_to(self, rows: Indexes, item_index: int, weights: Floats) -> None:
        """Strengthen `row -> item` in many rows."""
        same = self.neighbours[rows] == item_index  # [R, M]
        found = same.any(axis=1)
        places = np.where(found, same.argmax(axis=1), self.links.values[rows].argmin(axis=1))
        before = np.where(found, self.links.values[rows, places], np.float32(0))
        self.links.values[rows, places] = before + weights
        self.neighbours[rows, places] = item_index

    def _link_from(self, row: int, items: Indexes, weights: Floats) -> None:
        """Strengthen `row -> item` for many items of one row."""
        strengths, names = self.links.values[row], self.neighbours[row]
        same = names[None, :] == items[:, None]  # [R, M]
        found = same.any(axis=1)
        places = same.argmax(axis=1)[found]
        strengths[places] += weights[found]
        newcomers = items[~found]
        if len(newcomers):
            order = strengths.copy()
            order[places] = np.inf  # what was just strengthened stays
            weakest = np.argsort(order, kind="stable")[: len(newcomers)]  # free places first, in order
            strengths[weakest] = weights[~found]
            names[weakest] = newcomers

    def get_state(self) -> dict[str, Any]:
        return {"seen": self.seen.get_state(), "links": self.links.get_state(), "neighbours": self.neighbours.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seen.set_state(state["seen"])
        self.links.set_state(state["links"])
        self.neighbours = np.array(state["neighbours"], np.int32)
