"""The learner: score first, then learn; say when a round is due, what it learns from, and whether to take it back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.checkpoint import load_state, save_state
from learners.errors import CorruptCheckpointError
from learners.fast_memory.wire import ExpertUpdate, full_copy, take_updates
from learners.histories import Histories, Past
from learners.interactions import Interaction, code_of, is_target
from learners.items.catalog import Catalog
from learners.learner_config import LearnerConfig
from learners.mixture.pool import softmax
from learners.quality.drift import DriftEvent
from learners.quality.examiner import Examiner, Seen
from learners.quality.metrics import MetricValue
from learners.quality.shadow import Rollback
from learners.ranking.ranker import Judgement, Ranker
from learners.ranking.shared_expert import BLOCK, SharedExpert
from learners.releases.release import LoadedRelease
from learners.replay.buffers import stored_in
from learners.replay.pending import Pending
from learners.replay.reservoirs import POPULARITY_BANDS, popularity_band
from learners.rounds.material import RoundInput
from learners.rounds.triggers import Trigger, Triggers
from learners.strategies import strategy_named

Floats = npt.NDArray[np.float32]

_BANDS_EVERY = 1_000  # interactions between two looks at what is popular
_FORMAT = 2  # of the state; another one is not read

__all__ = ["Learner", "LearnerConfig"]


class Learner:
    """Everything that learns from the stream, behind one exact state.

    Args:
        catalog: Shared with whoever applies `catalog.items`.
        config: See `LearnerConfig`.
        seed: Source of every random choice.
    """

    def __init__(self, *, catalog: Catalog, config: LearnerConfig | None = None, seed: int = 0) -> None:
        self.config = config = config or LearnerConfig()
        self.catalog = catalog
        self.seed = seed
        self.ranker = Ranker(catalog=catalog, config=config.ranker)
        self.histories = Histories(length=config.history_length, max_users=config.max_users)
        self.examiner = Examiner(metrics_window=config.metrics_window, drift=config.drift, shadow=config.shadow)
        self.triggers = Triggers(config.trigger)
        self._rng = np.random.default_rng(seed)
        length = config.model.history_length
        self.strategy = strategy_named(config.training.strategy, config.training.strategy_settings)
        self.replay = self.strategy.buffer(capacity=config.replay_capacity, length=length, rng=self._rng)
        self.pending = Pending(
            length=length,
            newest=config.newest_window,
            frozen=config.frozen_cases,
            most=config.most_pending,
            rng=self._rng,
        )
        self.interactions = 0  # target interactions applied
        self.rounds = 0
        self._forgotten: dict[str, int] = {}
        self._bands: npt.NDArray[np.float64] = np.ones(len(POPULARITY_BANDS))
        self._weights_changed = False

    @property
    def model_version(self) -> int:
        """Of the release in use; 0 for none."""
        return self.ranker.model_version

    # ---- the stream -------------------------------------------------------------------------------------------------

    def observe(self, interactions: Sequence[Interaction]) -> int:
        """Score interactions with what was known before each of them, then learn them; returns how many were scored.

        Results do not depend on how the stream is cut into calls.
        """
        scored = 0
        start = 0
        while start < len(interactions):
            seen: list[Seen] = []
            room = BLOCK - self.interactions % BLOCK
            while start < len(interactions) and len(seen) < room:
                taken = self._take(interactions[start])
                start += 1
                if taken is not None:
                    seen.append(taken)
            self._learn(seen)
            scored += len(seen)
        return scored

    def _take(self, interaction: Interaction) -> Seen | None:
        """Move one interaction into its user's history; returns what is to be scored, if it is a target."""
        user_id, time_ms = interaction.user_id, interaction.event_time_ms
        if user_id in self._forgotten and getattr(interaction, "appended_at_ms", time_ms) <= self._forgotten[user_id]:
            return None
        item_index = self.catalog.index_of(interaction.item_id)
        items = len(self.catalog)
        rankable = bool(item_index and self.catalog.active[item_index])
        item_index = item_index or self.catalog.admit(interaction.item_id)
        seen = None
        if is_target(interaction.event_type):
            past = self.histories.past(user_id)
            if interaction.late:
                before = past.times_ms <= time_ms
                past = Past(past.items[before], past.times_ms[before])
            seen = Seen(interaction, item_index, rankable, past, items)
        if not interaction.late:  # late ones are learned from, not served from: no worker's history has them
            self.histories.append(user_id, item_index, time_ms, code_of(interaction.event_type))
        return seen

    def _learn(self, seen: Sequence[Seen]) -> None:
        if not seen:
            return
        pasts = [each.past for each in seen]
        first = self.interactions % BLOCK
        shared = self._logits(self.ranker.shared, pasts, first)
        shadow = self._logits(self.examiner.predecessor, pasts, first)
        for place, taken in enumerate(seen):
            barred = self.ranker.barred(taken.items)
            each = taken._replace(rankable=taken.rankable and taken.item_index not in barred)  # it may have expired
            judgement = self.ranker.judge(
                each.past,
                each.interaction.event_time_ms,
                items=each.items,
                barred=barred,
                shared_logits=None if shared is None else shared[place],
                surface=each.interaction.surface,
            )
            alarms = self.examiner.examine(
                each,
                judgement,
                barred,
                model_version=self.ranker.model_version,
                new_item=not self.ranker.memory.knows(each.item_index),
                shadow_logits=None if shadow is None else shadow[place],
            )
            for metric in alarms:
                self.triggers.alarm(metric)
            self._absorb(each, judgement, None if shared is None else shared[place])

    @staticmethod
    def _logits(expert: SharedExpert | None, pasts: Sequence[Past], first: int) -> Floats | None:
        if expert is None:
            return None
        expert.refresh()
        return expert.logits(pasts, first=first)

    def _absorb(self, each: Seen, judgement: Judgement, logits: Floats | None) -> None:
        """Learn one interaction, at once."""
        interaction, item_index, past = each.interaction, each.item_index, each.past
        time_ms = interaction.event_time_ms
        self.interactions += 1
        if each.rankable and judgement.experts is not None:
            probabilities = softmax(judgement.logits)
            self.ranker.mixture.learn(judgement.situation, judgement.experts, probabilities, item_index)
            self._weights_changed = True
        self.ranker.memory.observe(item_index, past, time_ms, judgement.opinion if each.rankable else None)
        counts = self.ranker.memory.popularity.counts[-1]
        if self.interactions % _BANDS_EVERY == 1:
            self._bands = np.quantile(counts.values[1 : each.items], POPULARITY_BANDS)
        band = popularity_band(float(counts.values[item_index]), self._bands)
        history = past.items.tolist()
        user_id, arrival = interaction.user_id, self.interactions
        self.replay.add(user_id, history, item_index, time_ms=time_ms, band=band, arrival=arrival, logits=logits)
        self.pending.add(user_id, history, item_index, time_ms=time_ms, arrival=arrival)
        self.triggers.add()

    # ---- rounds -----------------------------------------------------------------------------------------------------

    def due(self, now_ms: int) -> Trigger | None:
        """Return why a round is due at `now_ms` (any clock that rises), or None."""
        return self.triggers.due(now_ms) if self.strategy.trains else None

    def round_input(
        self,
        trigger: Trigger,
        *,
        text_vectors: Floats,
        incumbent: Path | None,
        facts: Mapping[str, Any] | None = None,
    ) -> RoundInput:
        """Return what a round learns from; the interactions in it come back with `abandon_round` if it fails.

        Args:
            trigger: Why; the triggers begin to count anew.
            text_vectors: What describes every catalogue item, [N, `described_width`]; zeros for what it lacks.
                Items admitted since may be missing.
            incumbent: Directory of the release in use.
            facts: Kept in the release's manifest.
        """
        config = self.config
        items = len(self.catalog)
        before = self.pending.held_out()
        tokens, mask = self.pending.take()
        learned = self.pending.lessons.learned(items)
        neighbours, strengths = self.ranker.memory.covisitation.links_of(np.flatnonzero(learned == 0))
        share = min(1.0, trigger.interactions / config.replay_from)
        again = round(share * config.replay_rows) if incumbent is not None else 0
        material = self.strategy.material(tokens, mask, self.replay, rows=again, before=before)
        rows = len(material.tokens)
        newest_histories, newest_targets = self.pending.newest()
        frozen_histories, frozen_targets = self.pending.frozen()
        self.pending.freeze()
        self.triggers.reset(trigger.at_ms)
        self.rounds += 1
        vectors = np.zeros((items, config.model.described_width), np.float32)
        vectors[: len(text_vectors)] = text_vectors[:items]
        return RoundInput(
            tokens=material.tokens,
            loss_mask=material.mask,
            weight=np.ones(rows, np.float32),
            replayed=np.arange(rows) >= rows - material.replayed,
            extras=material.extras,
            newest_histories=newest_histories,
            newest_targets=newest_targets,
            frozen_histories=frozen_histories,
            frozen_targets=frozen_targets,
            item_ids=list(self.catalog.item_ids),
            text_vectors=vectors,
            active=self.ranker.rankable(items).copy(),
            learned=learned,
            neighbours=neighbours,
            strengths=strengths,
            model=config.model,
            training=config.training,
            gate=config.gate,
            seed=int(self._rng.integers(2**31)),
            incumbent=incumbent,
            people=self.pending.people(most=config.most_people) if config.most_people else (),
            facts={"trigger": trigger.kind, "trigger_detail": trigger.detail, "interactions": self.interactions}
            | dict(facts or {}),
        )

    def adopt(self, release: LoadedRelease | None, *, shadow: bool = True) -> None:
        """Score with a release from the next interaction on; the round that made it is done.

        Args:
            release: The new one; None falls back to fast memory alone.
            shadow: Whether the predecessor goes on scoring; False after a rollback and at start.
        """
        predecessor = self.ranker.shared
        self.pending.done()
        self.ranker.adopt(release)
        if release is not None:
            self.ranker.start_mixture()
            self._weights_changed = True
        self.examiner.compare_with(predecessor if shadow and release is not None else None)

    def abandon_round(self) -> None:
        """Let the interactions of a failed or refused round wait for the next one."""
        self.pending.put_back()

    def should_roll_back(self) -> Rollback | None:
        """Return why the predecessor should serve again, or None."""
        return self.examiner.rollback()

    # ---- people -----------------------------------------------------------------------------------------------------

    def forget(self, user_id: str, requested_at_ms: int) -> int:
        """Remove what is held of a person's interactions up to a time; returns how many pieces went.

        Interactions appended up to that time that are still to come are ignored.
        """
        self._forgotten[user_id] = max(requested_at_ms, self._forgotten.get(user_id, requested_at_ms))
        return (
            self.histories.forget(user_id, until_ms=requested_at_ms)
            + self.replay.forget(user_id, until_ms=requested_at_ms)
            + self.pending.forget(user_id, until_ms=requested_at_ms)
        )

    def remembers(self, user_id: str) -> bool:
        """Say whether anything of a person is held."""
        return user_id in self.histories or user_id in self.replay.user_ids() or user_id in self.pending.user_ids()

    # ---- what others are told ---------------------------------------------------------------------------------------

    def metrics(self) -> list[MetricValue]:
        """Return, once, the figures of completed windows."""
        return self.examiner.quality.drain()

    def drifts(self) -> list[DriftEvent]:
        """Return, once, what the detectors reported."""
        return self.examiner.watch.monitor.drain()

    def expert_updates(self, *, limit: int | None = None) -> Iterator[ExpertUpdate]:
        """Hand out, once, what workers need to rank as this learner would: weights first, then items.

        Args:
            limit: Most items handed out; the longest-waiting first, the others wait for the next call.
        """
        if self._weights_changed:
            self._weights_changed = False
            yield self.ranker.mixture_update()
        yield from take_updates(self.ranker.memory, self.catalog, limit=limit)

    def full_copy(self) -> Iterator[ExpertUpdate]:
        """Hand out all of it."""
        yield self.ranker.mixture_update()
        yield from full_copy(self.ranker.memory, self.catalog)

    def totals(self) -> dict[str, dict[str, float]]:
        """Return every expert's quality since the first interaction."""
        return self.examiner.quality.totals()

    # ---- state ------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return everything but catalogue entries' texts and the releases' weights, which live elsewhere."""
        return {
            "format": _FORMAT,
            "interactions": self.interactions,
            "rounds": self.rounds,
            "catalog": self.catalog.get_state(),
            "random": self._rng.bit_generator.state,
            "bands": self._bands.copy(),
            "forgotten": self._forgotten,
            "weights_changed": self._weights_changed,
            "ranker": self.ranker.get_state(),
            "histories": self.histories.get_state(),
            "examiner": self.examiner.get_state(),
            "triggers": self.triggers.get_state(),
            "replay": self.replay.get_state(),
            "pending": self.pending.get_state(),
            "model_version": self.ranker.model_version,
        }

    def set_state(self, state: dict[str, Any], *, release_of: Callable[[int], LoadedRelease | None]) -> None:
        """Become what `get_state` described.

        Args:
            state: From `get_state`.
            release_of: Loads a release by its version; None where it is gone, which leaves fast memory alone.
        """
        self.interactions, self.rounds = state["interactions"], state["rounds"]
        self.catalog.set_state(state["catalog"])
        self._rng.bit_generator.state = state["random"]
        self._bands = np.array(state["bands"])
        self._forgotten = dict(state["forgotten"])
        self._weights_changed = state["weights_changed"]
        self.ranker.set_state(state["ranker"])
        self.histories.set_state(state["histories"])
        self.triggers.set_state(state["triggers"])
        self._restore_replay(state["replay"])
        self.ranker.adopt(release_of(state["model_version"]) if state["model_version"] else None)
        self.pending.set_state(state["pending"])  # after `adopt`, which ends rounds
        version = state["examiner"]["predecessor"]
        release = release_of(version) if version and self.ranker.shared is not None else None
        predecessor = None if release is None else SharedExpert(release, self.catalog, self.ranker.descriptions)
        self.examiner.set_state(state["examiner"], predecessor)

    def _restore_replay(self, state: dict[str, Any]) -> None:
        """Take over what another strategy's buffer held, if it was another's; it keeps of it what it would keep."""
        if state.get("policy", "stratified") == self.replay.policy:
            self.replay.set_state(state)
            return
        counts = self.ranker.memory.popularity.counts[-1].values
        for each in stored_in(state, length=self.config.model.history_length):
            band = popularity_band(float(counts[each.item_index]), self._bands)
            self.replay.add(each.user_id, each.history, each.item_index, time_ms=each.time_ms, band=band)

    def save(self, folder: Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            folder: Replaced in one step; an existing empty directory is written into.
            extra: JSON-able facts of the caller, such as offsets; `load` returns them.

        Raises:
            ReleaseWriteError: If the disk refuses; what was there before is untouched.
        """
        save_state(folder, {"learner": self.get_state(), "extra": dict(extra or {})})

    def load(self, folder: Path, *, release_of: Callable[[int], LoadedRelease | None]) -> dict[str, Any] | None:
        """Become what `save` wrote and return its `extra`, or return None if nothing was ever written there.

        Args:
            folder: As given to `save`.
            release_of: Loads a release by its version; None where it is gone.

        Raises:
            CorruptCheckpointError: If the files cannot be read, or are of another format.
        """
        if (state := load_state(folder)) is None:
            return None
        if (found := state["learner"]["format"]) != _FORMAT:
            raise CorruptCheckpointError(path=folder, cause=f"its format is {found}, expected {_FORMAT}")
        self.set_state(state["learner"], release_of=release_of)
        extra: dict[str, Any] = state["extra"]
        return extra
