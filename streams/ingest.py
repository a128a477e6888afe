"""Ingest: which interactions count, and what a run of records owes to Kafka and to Postgres.

The order of effects is the promise (DESIGN section 3): Kafka acknowledges interactions and dead letters, then ONE
Postgres transaction writes every touched row and the partition's ledger, then the offset is committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.ledger import Ledger
from streams.batches import RecordBatch
from streams.events import Interaction
from streams.validation import RejectedEvent

encode = msgspec.json.Encoder().encode

Message = tuple[bytes, bytes]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one run of records: every record is in exactly one of the counted groups."""

    records: RecordBatch
    rejected: list[RejectedEvent]
    applied: list[Interaction] = field(default_factory=list)
    late: list[Interaction] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)  # admitted: what a duplicate is recognised by
    duplicate: int = 0
    erased: int = 0

    def counts(self) -> dict[str, int]:
        """The ledger's counts of this run; they reconcile: received is the sum of the next five."""
        return {
            "received": len(self.records),
            "applied": len(self.applied),
            "rejected": len(self.rejected),
            "duplicate": self.duplicate,
            "late": len(self.late),
            "erased": self.erased,
            "truncated": self.records.truncated,
        }

    def flush(self) -> PartitionFlush:
        """The Postgres side."""
        records = self.records
        return PartitionFlush(
            topic=records.topic,
            partition=records.partition,
            first_offset=records.first_offset,
            next_offset=records.next_offset,
            counts=self.counts(),
            event_ids=self.event_ids,
            applied=self.applied,
            appended_at_ms=[i.appended_at_ms for i in self.applied],
        )

    def messages(self) -> tuple[list[Message], list[Message]]:
        """The Kafka side: (key, value) for `interactions.validated` and, re-keyed, for `interactions.by_item`.

        Both in offset order. Item features are served, so late interactions are not re-keyed.
        """
        by_user: list[Message] = []
        by_item: list[Message] = []
        for interaction in self.applied:
            value = encode(interaction)
            by_user.append((interaction.user_id.encode(), value))
            by_item.append((interaction.item_id.encode(), value))
        if self.late:
            everything = sorted([*self.applied, *self.late], key=lambda i: i.offset)
            by_user = [(i.user_id.encode(), encode(i)) for i in everything]
        return by_user, by_item


def sort_out(
    records: RecordBatch,
    interactions: Sequence[Interaction],
    rejected: list[RejectedEvent],
    *,
    users: UserFeatures,
    ledger: Ledger,
) -> Outcome:
    """Apply what counts to the users' states, in offset order; note what is duplicate, late or erased.

    Late is an interaction older than its user's newest by more than is allowed: learned from, not served from.

    Args:
        records: The run of records as fetched.
        interactions: The valid ones among them.
        rejected: The others.
        users: States of every user in `interactions`, loaded.
        ledger: The partition's.
    """
    outcome = Outcome(records=records, rejected=rejected)
    admit, apply, partition = ledger.admit, users.apply, records.partition
    applied, admitted = outcome.applied.append, outcome.event_ids.append
    for interaction in interactions:
        if not admit(interaction.event_id):
            outcome.duplicate += 1
            continue
        admitted(interaction.event_id)
        what = apply(
            partition, interaction.user_id, interaction.item_id, interaction.event_type, interaction.event_time_ms
        )
        if what == "applied":
            applied(interaction)
        elif what == "late":
            outcome.late.append(msgspec.structs.replace(interaction, late=True))
        else:
            outcome.erased += 1
    return outcome


def beyond(records: RecordBatch, next_offset: int | None) -> RecordBatch | None:
    """What of a run the ledger does not contain: redelivered records are discarded and not counted again.

    >>> run = RecordBatch(topic="t", partition=0, offsets=[4, 7], keys=[b"u", b"v"], values=[b"{}", b"{}"],
    ...                   timestamps_ms=[1, 2])
    >>> beyond(run, None) is run, beyond(run, 5).offsets, beyond(run, 8)
    (True, [7], None)
    """
    if next_offset is None or records.first_offset >= next_offset:
        return records
    known = sum(offset < next_offset for offset in records.offsets)
    return None if known == len(records) else records.tail(known)
