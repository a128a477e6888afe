"""Where the learner is: which records every part of its state has seen, once and no more."""

from collections import Counter
from typing import Any

import msgspec

from streams.erasures import Erasures
from streams.events import Interaction

CHECKPOINT_FORMAT = 1


class PendingRound(msgspec.Struct, kw_only=True, frozen=True):
    """A round whose outcome is not settled: it is repeated or recovered by whoever loads the checkpoint.

    Args:
        number: 1, 2, ... within the lineage.
        key: The same round has the same key wherever it is recorded, so that it is released once.
        trigger: What set it off, for people and reports.
        triggered_at_ms: When.
        interactions: How many the learner had observed.
        offsets: Clickstream partition -> next offset not yet observed then.
    """

    number: int
    key: str
    trigger: dict[str, Any]
    triggered_at_ms: int
    interactions: int
    offsets: dict[int, int] = {}


class Position(msgspec.Struct, kw_only=True):
    """What a checkpoint says beside the learner's own state.

    Args:
        lineage: Drawn when a learner starts from nothing; names its rounds.
        cluster_id: The Kafka cluster that the offsets belong to.
        offsets: Topic -> partition -> next offset to read.
        sources: Clickstream partition -> highest offset applied. What comes again at or below it is a repeat.
        erasures: Person -> time (ms) up to which they are forgotten.
        counts: Outcomes of interactions (observed, repeated, erased, rejected, truncated) and of rounds.
        sequence: Of the release record whose model the learner has adopted; 0 before the first.
        pending: The round that runs, if one does.
    """

    lineage: str
    cluster_id: str
    format: int = CHECKPOINT_FORMAT
    offsets: dict[str, dict[int, int]] = {}
    sources: dict[int, int] = {}
    erasures: dict[str, int] = {}
    counts: dict[str, int] = {}
    sequence: int = 0
    pending: PendingRound | None = None


class Tracker:
    """Decide for every interaction whether it is new, a repeat or erased, and count it.

    Everything here belongs to the learning thread, which changes it together with the learner.

    >>> tracker = Tracker(Position(lineage="a", cluster_id="k"))
    >>> first = Interaction(event_id="e", user_id="ada", item_id="mug", event_type="view", event_time_ms=5,
    ...                     appended_at_ms=6, partition=2, offset=7)
    >>> tracker.admit(first), tracker.admit(first)
    (True, False)
    >>> dict(tracker.counts)
    {'observed': 1, 'repeated': 1}
    """

    def __init__(self, position: Position) -> None:
        self.position = position
        self.counts: Counter[str] = Counter(position.counts)
        self.erasures = Erasures()
        for user_id, requested_at_ms in position.erasures.items():
            self.erasures.request(user_id, requested_at_ms)
        self.offsets = {topic: dict(partitions) for topic, partitions in position.offsets.items()}
        self.sources = dict(position.sources)

    def admit(self, interaction: Interaction) -> bool:
        """Whether the learner must observe this; False for a repeat and for a person who is forgotten."""
        if interaction.offset <= self.sources.get(interaction.partition, -1):
            self.counts["repeated"] += 1
            return False
        self.sources[interaction.partition] = interaction.offset
        if self.erasures.covers(interaction.user_id, interaction.event_time_ms):
            self.counts["erased"] += 1
            return False
        self.counts["observed"] += 1
        return True

    def advance(self, topic: str, partition: int, next_offset: int) -> None:
        """Everything below `next_offset` is applied."""
        self.offsets.setdefault(topic, {})[partition] = next_offset

    def follow(self, cluster_id: str) -> bool:
        """Take up position on this cluster; True if it is another one than before, where nothing was read yet."""
        if self.position.cluster_id == cluster_id:
            return False
        self.position.cluster_id = cluster_id
        self.offsets, self.sources = {}, {}
        return True

    def snapshot(self) -> Position:
        """Return a copy that later changes do not touch."""
        return Position(
            lineage=self.position.lineage,
            cluster_id=self.position.cluster_id,
            offsets={topic: dict(partitions) for topic, partitions in self.offsets.items()},
            sources=dict(self.sources),
            erasures=self.erasures.all(),
            counts=dict(self.counts),
            sequence=self.position.sequence,
            pending=self.position.pending,
        )
