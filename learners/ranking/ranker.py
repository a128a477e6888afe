"""The scoring function: what the learner measures and what workers serve."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.fast_memory import FEATURES, REASONS, START, FastMemory, FastMemoryConfig, Opinion
from learners.fast_memory.wire import ExpertUpdate, apply_update, table_rows, table_update
from learners.histories import EMPTY_PAST, Past
from learners.interactions import is_target
from learners.items.catalog import Catalog
from learners.mixture.context_pool import ContextPool, Situation, surface_of
from learners.mixture.pool import CONTEXTS, PoolConfig, softmax
from learners.ranking.shared_expert import BLOCK, Descriptions, SharedExpert
from learners.releases.release import LoadedRelease

Floats = npt.NDArray[np.float32]

EXPERTS = ("shared_model", *FEATURES)
_MIXTURE = "mixture"
_BARRED = np.float32(-1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """Settings of the mixture and of what it mixes.

    Args:
        memory: See `FastMemoryConfig`.
        mixture: How fast the mixture's weights learn.
        shared_start: The shared model's weight when the first release arrives ...
        memory_start: ... and the share of its own weight that each part of fast memory keeps then.
        item_expiry_ms: An item that nobody turned to for so long, by the events' clock, is no longer ranked until
            somebody does; None: items never expire. What was never met does not expire.
    """

    memory: FastMemoryConfig = field(default_factory=FastMemoryConfig)
    mixture: PoolConfig = field(default_factory=PoolConfig)
    shared_start: float = 0.4
    memory_start: float = 0.65
    item_expiry_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    """One person to rank the catalogue for.

    Args:
        item_ids: The history, oldest first.
        times_ms: When each was met.
        event_types: What each was; None: all are of target types.
        now_ms: Moment to rank for, by the events' clock (such as the newest event's time).
        exclude: Items that must not be ranked.
        surface: Where the ranking will be shown, one of `SURFACES`; None, or any other: unknown.
    """

    item_ids: Sequence[str] = ()
    times_ms: Sequence[int] = ()
    event_types: Sequence[str] | None = None
    now_ms: int
    exclude: Collection[str] = ()
    surface: str | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place of a ranking.

    Args:
        item_id: What.
        score: Its probability to be next, by the mixture.
        reason: The expert that contributed most: `shared_model`, `covisitation`, `popularity`, `recency` or `repeat`.
    """

    item_id: str
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything said about one history.

    Args:
        opinion: Fast memory's.
        situation: What the mixture's weights depended on.
        experts: What each of `EXPERTS` says, [K, N]; None without a release, where the mixture is fast memory alone.
        logits: The mixture's, [N]; barred items are far below all others.
    """

    opinion: Opinion
    situation: Situation
    experts: Floats | None
    logits: Floats

    @property
    def shared(self) -> Floats | None:
        """Log-probabilities of the shared model, [N]; None without a release."""
        return None if self.experts is None else self.experts[0]


class Ranker:
    """Combine the released model and fast memory into one ranking of the whole catalogue.

    Args:
        catalog: Item indexes and what may be ranked; shared with whoever keeps it up to date.
        config: See `RankerConfig`.
    """

    def __init__(self, *, catalog: Catalog, config: RankerConfig | None = None) -> None:
        self.config = config or RankerConfig()
        self.catalog = catalog
        self.memory = FastMemory(self.config.memory)
        start = [self.config.shared_start, *(self.config.memory_start * START)]
        self.mixture = ContextPool(EXPERTS, start=start, contexts=CONTEXTS, config=self.config.mixture)
        self.shared: SharedExpert | None = None
        self.descriptions = Descriptions()

    @property
    def model_version(self) -> int:
        """Of the release in use; 0 for none."""
        return self.shared.version if self.shared else 0

    def adopt(self, release: LoadedRelease | None) -> None:
        """Use a release from the next ranking on; None falls back to fast memory alone."""
        expert = None
        if release is not None:
            expert = SharedExpert(release, self.catalog, self.descriptions)
            expert.refresh()
        self.shared = expert

    def start_mixture(self) -> None:
        """Begin to mix from where fast memory's own weights stand, if the mixture has not learned anything yet."""
        if not self.mixture.steps:
            people = self.mixture.people.weights
            people[:, 0] = self.config.shared_start
            people[:, 1:] = self.config.memory_start * self.memory.pool.weights

    def describe(self, item_id: str, text_vector: Floats, *others: Floats) -> None:
        """Say what describes an item, so that a release that has never seen it can score it.

        Args:
            item_id: Which item.
            text_vector: Of its text, [T].
            others: Of its picture [V] and its attributes [A], where there are any.
        """
        self.descriptions.put(self.catalog.admit(item_id), (text_vector, *others))

    def barred(self, items: int) -> npt.NDArray[np.int64]:
        """Return the item indexes below `items` that must not be ranked: delisted or expired ones, and padding."""
        return np.flatnonzero(~self.rankable(items))

    def rankable(self, items: int) -> npt.NDArray[np.bool_]:
        """Return whether each item may be ranked now, bool [items]."""
        active = self.catalog.active[:items]
        if self.config.item_expiry_ms is None:
            return active
        return active & ~self.memory.popularity.expired(self.config.item_expiry_ms, items)

    def judge(
        self,
        past: Past,
        now_ms: int,
        *,
        items: int,
        barred: npt.NDArray[np.int64],
        shared_logits: Floats | None,
        surface: str | None = None,
    ) -> Judgement:
        """Score every item for one history: the one function behind every metric and every ranking.

        Args:
            past: The history.
            now_ms: Moment to rank for.
            items: N, padding included.
            barred: Item indexes that must not be ranked.
            shared_logits: This history's row of `SharedExpert.logits`; None without a release.
            surface: Where.
        """
        opinion = self.memory.opine(past, now_ms, items=items, barred=barred)
        situation = Situation(opinion.context, surface_of(surface), self.memory.young(now_ms, items))
        if shared_logits is None or self.shared is None:
            return Judgement(opinion, situation, None, opinion.log_probabilities)
        shared = self.shared.log_probabilities(shared_logits, items=items, barred=barred)
        experts = np.concatenate([shared[None], opinion.features])
        logits = self.mixture.combine(situation, experts)
        logits[barred] = _BARRED
        return Judgement(opinion, situation, experts, logits)

    def rank(self, requests: Sequence[RankRequest], k: int) -> list[list[Ranked]]:
        """Rank the catalogue for every request: at most `k` items each, best first.

        Raises:
            ValueError: If `k` is below 1.
        """
        if k < 1:
            message = f"k is {k}; expected at least 1"
            raise ValueError(message)
        items = len(self.catalog)
        barred = self.barred(items)
        if len(barred) == items:  # an empty catalogue, or everything delisted
            return [[] for _ in requests]
        pasts = [self._past(request) for request in requests]
        if self.shared is not None:
            self.shared.refresh()
        rankings: list[list[Ranked]] = []
        for start in range(0, len(requests), BLOCK):
            block = pasts[start : start + BLOCK]
            logits = self.shared.logits(block) if self.shared else None
            for place, (past, request) in enumerate(zip(block, requests[start : start + BLOCK], strict=True)):
                row = None if logits is None else logits[place]
                judgement = self.judge(
                    past, request.now_ms, items=items, barred=barred, shared_logits=row, surface=request.surface
                )
                rankings.append(self._top(judgement, request, k))
        return rankings

    def apply(self, update: ExpertUpdate) -> bool:
        """Put a record of `experts.updates` into this replica; says whether it was understood.

        Raises:
            msgspec.ValidationError: If the payload is not what its expert writes.
        """
        if apply_update(self.memory, self.catalog, update):
            return True
        if update.key == _MIXTURE:
            self.mixture.set_rows(table_rows(update))
            return True
        return False

    def mixture_update(self) -> ExpertUpdate:
        """Return the mixture's weights as a record of `experts.updates`."""
        return table_update(_MIXTURE, self.mixture.rows())

    def _past(self, request: RankRequest) -> Past:
        if not len(request.item_ids):
            return EMPTY_PAST
        items = self.catalog.indexes_of(request.item_ids).astype(np.int64)
        times = np.array(request.times_ms, np.int64)
        kept = items > 0
        if request.event_types is not None:
            kept &= np.fromiter(map(is_target, request.event_types), np.bool_, len(items))
        return Past(items[kept], times[kept])

    def _top(self, judgement: Judgement, request: RankRequest, k: int) -> list[Ranked]:
        scores = judgement.logits
        if request.exclude:
            scores = scores.copy()
            scores[self.catalog.indexes_of(request.exclude)] = _BARRED
        best = top_of(scores, k)
        if not len(best):
            return []
        probabilities = softmax(scores)[best].tolist()
        return [
            Ranked(self.catalog.item_ids[item], probability, reason)
            for item, probability, reason in zip(
                best.tolist(), probabilities, self._reasons(judgement, best), strict=True
            )
        ]

    def _reasons(self, judgement: Judgement, items: npt.NDArray[np.int64]) -> list[str]:
        """Return the name that added most to each item's score above the catalogue's mean."""
        context = judgement.opinion.context
        if judgement.experts is None:
            weights, opinions = self.memory.pool.weights[context], judgement.opinion.features
            names_of: tuple[str, ...] = REASONS
        else:
            weights, opinions = self.mixture.weights(judgement.situation), judgement.experts
            names_of = ("shared_model", *REASONS)
        ranked = judgement.logits > _BARRED
        above = opinions[:, items] - opinions[:, ranked].mean(axis=1, keepdims=True)
        by_name: dict[str, Any] = {}
        for name, weight, part in zip(names_of, weights.tolist(), above, strict=True):
            by_name[name] = by_name.get(name, 0) + weight * part
        names = list(by_name)
        return [names[place] for place in np.stack(list(by_name.values())).argmax(axis=0).tolist()]

    def get_state(self) -> dict[str, Any]:
        """Return what was learned; the catalogue and the release are kept by others."""
        return {"memory": self.memory.get_state(), "mixture": self.mixture.get_state(), "features": list(FEATURES)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.memory.set_state(state["memory"])
        self.mixture.set_state(state["mixture"])


def top_of(scores: Floats, k: int) -> npt.NDArray[np.int64]:
    """Return the indexes of the best `k` scores, best first, the lower index first among equals; barred ones never.

    >>> top_of(np.array([-1e9, 0.5, 0.7, 0.7, 0.1], np.float32), 3).tolist()
    [2, 3, 1]
    """
    least = np.float32(_BARRED)
    if k < len(scores):
        least = max(least, np.partition(scores, len(scores) - k)[len(scores) - k])
    candidates = np.flatnonzero(scores >= least)
    candidates = candidates[scores[candidates] > _BARRED]
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    best: npt.NDArray[np.int64] = candidates[order]
    return best
