"""Fast memory: everything that learns from each interaction in microseconds, and the pool that weighs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.fast_memory.covisitation import Covisitation, CovisitationConfig
from learners.fast_memory.decay import DAY_MS
from learners.fast_memory.popularity import Popularity
from learners.fast_memory.repeats import Met, Repeats, met_in, sequel
from learners.histories import Past
from learners.mixture.pool import CONTEXTS, LogPool, PoolConfig, context_of, log_softmax

Floats = npt.NDArray[np.float32]

FEATURES = (
    "covisitation",
    "popularity_day",
    "popularity",
    "popularity_quarter",
    "recency",
    "repeat",
    "met",
    "met_this_visit",
    "sequel",
    "covisitation_wide",
)
REASONS = (
    "covisitation",
    "popularity",
    "popularity",
    "popularity",
    "recency",
    "repeat",
    "repeat",
    "repeat",
    "repeat",
    "covisitation",
)
COMPONENTS = {"covisitation": 0, "popularity": 2, "recency": 4, "repeat": 5}
"""What is measured as an expert of its own -> its feature."""

START = np.array([0.7, 0.2, 0.0, 0.0, 0.0, 0.7, -0.8, -1.5, 0.7, 0.1])  # near where they settle on a real shop's log

YOUNG = 10  # interactions (decayed) below which an item is young to the mixture

_BARRED = np.float32(-1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastMemoryConfig:
    """Settings of fast memory.

    Args:
        covisitation: See `CovisitationConfig`.
        half_lives_ms: Half-lives of popularity: about a day, a week, a quarter.
        background: Share of popularity mixed into co-visitation, so that no item is impossible, in (0, 1).
        pool: How fast the weights learn.
    """

    covisitation: CovisitationConfig = field(default_factory=CovisitationConfig)
    half_lives_ms: tuple[int, int, int] = (DAY_MS, 7 * DAY_MS, 90 * DAY_MS)
    background: float = 0.3
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What fast memory says for one history.

    Args:
        context: The pool's context.
        features: One row per name in `FEATURES`, [K, N].
        log_probabilities: All of them combined, [N].
        met: The items of the history.
    """

    context: int
    features: Floats
    log_probabilities: Floats
    met: Met


class FastMemory:
    """Decayed co-visitation, popularity, recency and repeat-consumption, combined by weights learned online.

    Args:
        config: See `FastMemoryConfig`.
    """

    def __init__(self, config: FastMemoryConfig) -> None:
        self.config = config
        self.covisitation = Covisitation(config.covisitation)
        self.popularity = Popularity(half_lives_ms=config.half_lives_ms)
        self.repeats = Repeats()
        self.pool = LogPool(FEATURES, start=START.tolist(), contexts=CONTEXTS, config=config.pool)
        self.changed: dict[int, None] = {}  # item indexes with something new to tell, oldest change first
        self.tables_changed = False

    def reserve(self, items: int) -> None:
        """Have room for this many items."""
        self.covisitation.reserve(items)
        self.popularity.reserve(items)

    def knows(self, item_index: int) -> bool:
        """Say whether anybody ever turned to the item."""
        seen = self.covisitation.seen.values
        return item_index < len(seen) and bool(seen[item_index] > 0)

    def young(self, now_ms: int, items: int) -> npt.NDArray[np.int64]:
        """Return the item indexes met fewer than `YOUNG` times (decayed), ascending; padding is not among them."""
        seen = self.covisitation.seen
        unit = seen.unit(self.popularity.clock(now_ms))
        return np.flatnonzero(seen.values[1:items] < np.float32(YOUNG * unit)) + 1

    def opine(self, past: Past, now_ms: int, *, items: int, barred: Sequence[int] | npt.NDArray[np.int64]) -> Opinion:
        """Score every item for one history; nothing is learned.

        Args:
            past: The history.
            now_ms: Moment to rank for.
            items: N, padding included.
            barred: Item indexes that must not be ranked (padding, delisted).
        """
        self.reserve(items)
        now_ms = self.popularity.clock(now_ms)
        features = np.zeros((len(FEATURES), items), np.float32)
        features[1:4] = self.popularity.log_counts(now_ms, items)
        features[4] = self.popularity.log_age(now_ms, items)
        background = np.exp(features[2])
        for feature, decay in ((0, self.config.covisitation.near), (9, self.config.covisitation.wide)):
            features[feature] = self._together(past, now_ms, decay, background)
        met = met_in(past, now_ms)
        features[5, met.items] = np.log(self.repeats.chances(met) * items)
        features[6, met.items] = 1
        features[7, past.items[now_ms - past.times_ms <= self.config.covisitation.session_gap_ms]] = 1
        if followers := sequel(past):
            features[8, list(followers)] = np.log1p(5 * np.fromiter(followers.values(), np.float32, len(followers)))
        context = context_of(len(past.items))
        logits = self.pool.combine(context, features)
        logits[barred] = _BARRED
        return Opinion(context, features, log_softmax(logits), met)

    def _together(self, past: Past, now_ms: int, decay: float, background: Floats) -> Floats:
        """Return log-probabilities by one reading of co-visitation, over popularity: no item is impossible."""
        scores = self.covisitation.scores(past, now_ms, len(background), decay=decay)
        share = 1.0 if scores is None else self.config.background
        mixed = background * np.float32(share / background.sum())
        if scores is not None:
            mixed += scores * np.float32((1 - share) / scores.sum())
        logs: Floats = np.log(mixed)
        return logs

    def observe(self, item_index: int, past: Past, time_ms: int, opinion: Opinion | None) -> None:
        """Learn from one interaction, at once.

        Args:
            item_index: What the person turned to.
            past: The history before it.
            time_ms: When.
            opinion: What was said before it was known; None skips the weights (the item could not have been ranked).
        """
        self.reserve(item_index + 1)
        if opinion is not None:
            self.pool.learn(opinion.context, opinion.features, np.exp(opinion.log_probabilities), item_index)
        self.repeats.observe(item_index, met_in(past, time_ms) if opinion is None else opinion.met)
        self.popularity.observe(item_index, time_ms)
        for changed in self.covisitation.observe(item_index, past, time_ms).tolist():
            self.changed.pop(changed, None)
            self.changed[changed] = None
        self.tables_changed = True

    def get_state(self) -> dict[str, Any]:
        return {
            "covisitation": self.covisitation.get_state(),
            "popularity": self.popularity.get_state(),
            "repeats": self.repeats.get_state(),
            "pool": self.pool.get_state(),
            "changed": np.array(list(self.changed), np.int64),
            "tables_changed": self.tables_changed,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.covisitation.set_state(state["covisitation"])
        self.popularity.set_state(state["popularity"])
        self.repeats.set_state(state["repeats"])
        self.pool.set_state(state["pool"])
        self.changed = dict.fromkeys(state["changed"].tolist())
        self.tables_changed = bool(state["tables_changed"])
