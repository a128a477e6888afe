"""Everything that lives on the learning thread: the learner and its position, which change together or not at all."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from learners.items.described_vectors import DescribedVectors
from learners.items.gallery import Wanted
from learners.learner import Learner
from learners.releases.registry import ReleaseRecord
from learners.releases.release import LoadedRelease, path_of
from learners.rounds.material import RoundInput
from learners.rounds.triggers import Trigger
from streams.batches import RecordBatch
from streams.events import Interaction
from streams.learning.checkpoint import Checkpoints
from streams.learning.expert_updates import ExpertLog, Record
from streams.learning.findings import Findings, drift_record, metric_record
from streams.learning.item_vectors import ITEM_VECTORS, ItemVectors, encode_item_vector
from streams.learning.knowledge import apply_catalogue, read_erasures
from streams.learning.position import PendingRound, Position, Tracker

_decode = msgspec.json.Decoder(Interaction).decode


class Study:
    """The learner beside its position. Everything here blocks and belongs to one thread.

    Args:
        learner: Scores, learns, forgets.
        tracker: Knows what was applied.
        rows: What describes the items of the learner's catalogue.
        clock_ms: Wall clock.
    """

    def __init__(
        self, *, learner: Learner, tracker: Tracker, rows: DescribedVectors, clock_ms: Callable[[], int]
    ) -> None:
        self.learner, self.tracker, self.rows = learner, tracker, rows
        self.log = ExpertLog()
        self._vectors = ItemVectors()
        self._listed: list[int] = []  # item indexes whose text vector is not taken in yet
        self._texts: list[str] = []  # theirs, as far as nobody was asked to encode them
        self.caught_up = False  # the whole catalogue was read once; what is listed from now on is news
        self._pictures = self._pictures_of(range(1, len(learner.catalog)))  # not yet asked for either
        self._described: dict[int, None] = {}
        self._incumbent: Path | None = None
        self._forgotten: dict[str, int] = {}  # since the last look
        self._learned_from: list[Interaction] = []  # the same
        self._clock_ms = clock_ms

    # ---- what comes in

    def take_interactions(self, batch: RecordBatch) -> None:
        """Learn from a run of interactions, each once."""
        new: list[Interaction] = []
        for value in batch.values:
            try:
                interaction = _decode(value or b"")
            except msgspec.MsgspecError:
                self.tracker.counts["rejected"] += 1
                continue
            if self.tracker.admit(interaction):
                new.append(interaction)
        if new:
            self.learner.observe(new)
            self._learned_from.extend(new)
        self.tracker.counts["truncated"] += batch.truncated
        self.tracker.advance(batch.topic, batch.partition, batch.next_offset)

    def take_catalogue(self, batch: RecordBatch) -> None:
        """Take in a run of the catalogue; `describe` follows once its texts and pictures are encoded."""
        listed, unreadable = apply_catalogue(self.learner.catalog, batch)
        self.tracker.counts["catalogue_rejected"] += unreadable
        self._listed.extend(listed)
        self._texts.extend(self.learner.catalog.text_of(index) for index in listed)
        self._pictures.extend(self._pictures_of(listed))

    def take_erasures(self, batch: RecordBatch) -> int:
        """Forget whoever asks; returns how many requests were new."""
        requests, unreadable = read_erasures(batch)
        self.tracker.counts["erasures_rejected"] += unreadable
        new = [request for request in requests if self.tracker.erasures.request(*request)]
        for user_id, requested_at_ms in new:
            self.learner.forget(user_id, requested_at_ms)
            self._forgotten[user_id] = requested_at_ms
        return len(new)

    def describe(self) -> None:
        """Take in the vectors of whatever the catalogue has listed; they are quick to come by once encoded."""
        self.rows.update(self.learner.catalog)
        self._described |= dict.fromkeys([*self._listed, *self.rows.take_pictures(self.learner.catalog)])
        self._listed = []

    def _pictures_of(self, listed: Iterable[int]) -> list[Wanted]:
        return self.rows.wanted(self.learner.catalog, listed, anew=self.caught_up)

    # ---- what goes out

    def findings(self) -> Findings:
        """Return, once, what is to be said since the last call, and how things stand."""
        lineage = self.tracker.position.lineage
        metrics = [value for value in self.learner.metrics() if math.isfinite(value.value)]
        drifts = [event for event in self.learner.drifts() if math.isfinite(event.value)]
        rollback = self.learner.should_roll_back()
        texts, self._texts = self._texts, []
        pictures, self._pictures = self._pictures, []
        forgotten, self._forgotten = self._forgotten, {}
        learned_from, self._learned_from = self._learned_from, []
        return Findings(
            metrics=metrics,
            drifts=drifts,
            metric_records=[metric_record(lineage, value) for value in metrics],
            drift_records=[drift_record(lineage, event) for event in drifts],
            trigger=self.learner.due(self._clock_ms()),
            roll_back=None if rollback is None else asdict(rollback),
            counts=dict(self.tracker.counts),
            offsets={topic: dict(partitions) for topic, partitions in self.tracker.offsets.items()},
            since_last_trigger=self.learner.triggers.new,
            learned=self.learner.interactions,
            model_version=self.learner.ranker.model_version,
            texts=texts,
            pictures=pictures,
            forgotten=forgotten,
            learned_from=learned_from,
        )

    def updates(self, *, limit: int | None = None) -> list[Record]:
        """Return the records of what changed for workers since the last call."""
        changed = ((update.expert, update.key, update.payload) for update in self.learner.expert_updates(limit=limit))
        return self._written([*changed, *self._vector_updates()])

    def full_copy(self) -> list[Record]:
        """Return the records of everything that workers need."""
        for _ in self.learner.expert_updates():
            pass  # all of it follows
        everything = ((update.expert, update.key, update.payload) for update in self.learner.full_copy())
        return self._written([*everything, *self._vector_updates()])

    def _written(self, updates: Iterable[tuple[str, str, bytes | None]]) -> list[Record]:
        return self.log.write(updates, interactions=self.learner.interactions, now_ms=self._clock_ms())

    def _vector_updates(self) -> list[tuple[str, str, bytes | None]]:
        matrix, parts_of = self.rows.matrix(self.learner.catalog), self.rows.layout.parts
        changes = self._vectors.changes(self.learner.catalog, matrix, described=self._described)
        self._described = {}
        for item_id, vector in changes:
            if vector is not None:
                self.learner.ranker.describe(item_id, *parts_of(np.array(vector)))
        return [
            (ITEM_VECTORS, item_id, None if vector is None else encode_item_vector(parts_of(vector)))
            for item_id, vector in changes
        ]

    # ---- rounds and releases

    def begin_round(self, trigger: Trigger) -> tuple[PendingRound, RoundInput]:
        """Return a new pending round and what it learns from; the next checkpoint names it."""
        tracker = self.tracker
        tracker.counts["rounds_triggered"] += 1
        number = tracker.counts["rounds_triggered"]
        pending = PendingRound(
            number=number,
            key=f"{tracker.position.lineage}-{number}",
            trigger=asdict(trigger),
            triggered_at_ms=self._clock_ms(),
            interactions=self.learner.interactions,
            offsets={partition: offset + 1 for partition, offset in tracker.sources.items()},
        )
        self.describe()
        round_input = self.learner.round_input(
            trigger,
            text_vectors=self.rows.matrix(self.learner.catalog),
            incumbent=self._incumbent,
            facts={"round": pending.key, "offsets": {str(key): value for key, value in pending.offsets.items()}},
        )
        tracker.position.pending = pending
        return pending, round_input

    def end_round(self, outcome: str) -> None:
        """The pending round is settled; what an unsuccessful one was to learn waits for the next."""
        self.tracker.position.pending = None
        self.tracker.counts[f"rounds_{outcome}"] += 1
        if outcome != "passed":
            self.learner.abandon_round()

    def adopt(self, record: ReleaseRecord, release: LoadedRelease) -> None:
        """Score with this release from now on; the predecessor of a fresh one goes on scoring in the shadow."""
        self.learner.adopt(release, shadow=record.kind == "release")
        self.serve(record, release)
        if record.kind == "rollback":
            self.tracker.counts["rollbacks"] += 1

    def serve(self, record: ReleaseRecord, release: LoadedRelease) -> None:
        """Note which release serves, without touching what the learner made of it."""
        self.tracker.position.sequence = record.sequence
        self._incumbent = path_of(record.uri)
        self._vectors.adopt(release.item_ids)

    # ---- checkpoints

    def stage(self, checkpoints: Checkpoints) -> tuple[Path, Position]:
        """Write the state, and say where it stands."""
        return checkpoints.stage(self.learner.save), self.tracker.snapshot()
