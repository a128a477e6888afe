"""The worker's item features: `interactions.by_item` to Feast, each interaction once."""

import time

import msgspec

from feature_store.flush import ItemFeatures, PartitionFlush
from streams import worker_metrics
from streams.batches import RecordBatch
from streams.dead_letters import letters, shortened
from streams.events import Interaction
from streams.ingest import beyond
from streams.publisher import Publisher
from streams.threads import DedicatedThread
from streams.topics import INTERACTIONS_BY_ITEM
from streams.validation import RejectedEvent, rejection

_decode = msgspec.json.Decoder(Interaction).decode


class ItemIngest:
    """Between the agent and `feature_store`.

    Workers that replace one another may publish an interaction twice, so of each clickstream partition the highest
    offset applied is kept in the ledger, and what is not above it is a duplicate.

    Args:
        features: The store's side.
        thread: The storage thread.
        publisher: For dead letters; started.
    """

    def __init__(self, *, features: ItemFeatures, thread: DedicatedThread, publisher: Publisher) -> None:
        self.features = features
        self._thread, self._publisher = thread, publisher
        self.processed = 0

    async def open(self, partition: int) -> int | None:
        """Take a partition over; returns the offset to read on from, None where nothing was flushed yet."""
        ledger = await self._thread.run(self.features.open, INTERACTIONS_BY_ITEM, partition)
        return ledger.next_offset

    async def close(self, partition: int) -> None:
        """Give a partition up."""
        await self._thread.run(self.features.close, INTERACTIONS_BY_ITEM, partition)

    async def stop(self) -> None:
        """Give everything up and disconnect."""
        await self._thread.run(self.features.close_all)

    async def apply(self, batch: RecordBatch) -> None:
        """Apply a run of interactions and write every touched item and the ledger in one transaction."""
        started = time.perf_counter()
        ledger = self.features.ledger(batch.partition)
        fresh = beyond(batch, ledger.next_offset)
        if fresh is None:
            return
        interactions, rejected = read_interactions(fresh)
        if missing := self.features.missing(batch.partition, [i.item_id for i in interactions]):
            self.features.put(batch.partition, await self._thread.run(self.features.read, missing))
        highest, applied = dict(ledger.sources), []
        for interaction in interactions:
            if interaction.offset <= highest.get(interaction.partition, -1):
                continue
            highest[interaction.partition] = interaction.offset
            self.features.apply(batch.partition, interaction.item_id, interaction.event_type, interaction.event_time_ms)
            applied.append(interaction)
        await self._publisher.send(letters(rejected), shorten=shortened)
        flush = PartitionFlush(
            topic=batch.topic,
            partition=batch.partition,
            first_offset=fresh.first_offset,
            next_offset=fresh.next_offset,
            counts={
                "received": len(fresh),
                "applied": len(applied),
                "rejected": len(rejected),
                "duplicate": len(interactions) - len(applied),
                "truncated": fresh.truncated,
            },
            applied=applied,
            appended_at_ms=[i.appended_at_ms for i in applied],
            sources=highest,
        )
        await self._thread.run(self.features.flush, flush)
        worker_metrics.FLUSH_SECONDS.labels(batch.topic).observe(time.perf_counter() - started)
        worker_metrics.BATCH_RECORDS.labels(batch.topic).observe(len(batch))
        self.processed += len(batch)


def read_interactions(batch: RecordBatch) -> tuple[list[Interaction], list[RejectedEvent]]:
    """Decode a run of our own interactions; an unreadable one, from a foreign hand, is rejected."""
    interactions: list[Interaction] = []
    rejected: list[RejectedEvent] = []
    for place, value in enumerate(batch.values):
        try:
            interactions.append(_decode(value or b""))
        except (msgspec.MsgspecError, ValueError) as exc:
            rejected.append(rejection(batch, place, exc))
    return interactions, rejected
