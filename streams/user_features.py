"""The worker's user features: who owns which partition, and one batch at a time from Kafka to Feast."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from feature_store.flush import PreparedFlush, UserFeatures
from feature_store.users import UserState
from streams import worker_metrics
from streams.batches import RecordBatch
from streams.behind import Behind
from streams.events import Interaction
from streams.ingest import Outcome, beyond, sort_out
from streams.threads import DedicatedThread
from streams.topics import CLICKSTREAM_EVENTS
from streams.validation import RejectedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """A batch whose rows are encoded and wait to be written."""

    outcome: Outcome
    rows: PreparedFlush[UserState]
    began: float  # by `perf_counter`


class UserIngest:
    """Between the agent and `feature_store`: blocking calls on threads, one batch or erasure at a time on the states.

    While the rows of one batch are being written the next is prepared: writing needs only what `prepare` encoded.

    Args:
        features: The store's side; its writing calls are used on `thread`, its reading ones on `reading`, its cache
            from the event loop too, but never at the same time.
        thread: The storage thread.
        reading: The thread for states that are not in memory, which must not wait for a write.
        applied: Told the interactions whose features are written.
    """

    def __init__(
        self,
        *,
        features: UserFeatures,
        thread: DedicatedThread,
        reading: DedicatedThread,
        applied: Callable[[Sequence[Interaction]], None],
    ) -> None:
        self.features, self._applied = features, applied
        self._thread, self._reading = thread, reading
        self._turn = asyncio.Lock()
        self._behind = Behind()
        self.owned: set[int] = set()
        self.processed = 0
        self.erased = 0

    async def open(self, partition: int) -> int | None:
        """Take a partition over; returns the offset to read on from, None where nothing was flushed yet."""
        async with self._turn:
            await self._behind.drain()
            ledger = await self._thread.run(self.features.open, CLICKSTREAM_EVENTS, partition)
            self.owned.add(partition)
            return ledger.next_offset

    async def close(self, partition: int) -> None:
        """Give a partition up: drop its ledger and its users' states."""
        async with self._turn:
            await self._behind.drain()
            self.owned.discard(partition)
            await self._thread.run(self.features.close, CLICKSTREAM_EVENTS, partition)

    async def stop(self) -> None:
        """Give everything up and disconnect."""
        self._behind.cancel()
        self.owned.clear()
        await self._thread.run(self.features.close_all)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator["UserIngest"]:
        """Nobody else touches the states until this batch's rows are encoded and its effects are under way.

        Erasures and changes of ownership also wait until the effects are done: an erasure in between would be written
        over.
        """
        async with self._turn:
            yield self

    async def sort_out(
        self, batch: RecordBatch, interactions: Sequence[Interaction], rejected: list[RejectedEvent]
    ) -> Outcome:
        """Load who is missing, then decide on every record: erased, duplicate, late or applied."""
        ledger = self.features.ledger(batch.partition)
        fresh = beyond(batch, ledger.next_offset)
        if fresh is not batch:  # redelivered below the ledger: its effects are in Postgres
            first = batch.next_offset if fresh is None else fresh.first_offset
            interactions = [i for i in interactions if i.offset >= first]
            rejected = [r for r in rejected if r.offset >= first]
        if missing := self.features.missing(batch.partition, [i.user_id for i in interactions]):
            loaded = await self._reading.run(self.features.read, missing)
            self.features.put(batch.partition, loaded)
        return sort_out(fresh or batch, interactions, rejected, users=self.features, ledger=ledger)

    async def prepare(self, outcome: Outcome) -> Flush:
        """Encode every touched row as it is now; later batches do not change what is written."""
        began = time.perf_counter()
        rows = await self._reading.run(self.features.prepare, outcome.flush())
        return Flush(outcome=outcome, rows=rows, began=began)

    async def take_effect(self, flush: Flush, *, sending: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Begin `sending` and, once Kafka has all of it and earlier batches are written, write; returns the task."""
        return await self._behind.start(sending, lambda: self._write(flush))

    async def _write(self, flush: Flush) -> None:
        """Write every touched row and the ledger in one transaction.

        Raises:
            StaleLedgerError: If another worker owns the partition by now; nothing was written.
            StoreUnavailableError: If Postgres does not answer.
        """
        outcome = flush.outcome
        result = await self._thread.run(self.features.write, flush.rows)
        self.features.settle(flush.rows)
        topic = outcome.records.topic
        worker_metrics.FOREIGN_USERS.inc(result.foreign)
        for name, count in outcome.counts().items():
            worker_metrics.EVENTS.labels(name).inc(count)
        worker_metrics.BATCH_RECORDS.labels(topic).observe(len(outcome.records))
        worker_metrics.FLUSH_SECONDS.labels(topic).observe(time.perf_counter() - flush.began)
        if outcome.applied:
            age_s = time.time() - outcome.applied[0].appended_at_ms / 1000
            worker_metrics.FRESHNESS_SECONDS.labels("feature").observe(age_s)
        self.processed += len(outcome.records)
        self._applied(outcome.applied)

    def state(self, partition: int, user_id: str) -> UserState | None:
        """A person's state if it is in memory; it is not when the partition is another worker's."""
        return self.features.state(partition, user_id) if partition in self.owned else None

    async def read(self, user_ids: Sequence[str]) -> dict[str, UserState]:
        """Anybody's states, from Feast."""
        return await self._reading.run(self.features.read, user_ids)

    async def erase(self, user_id: str, requested_at_ms: int, partition: int) -> bool:
        """Forget a person between two batches; False where it was done before."""
        async with self._turn:
            await self._behind.drain()
            news = await self._thread.run(self.features.erase, user_id, requested_at_ms, CLICKSTREAM_EVENTS, partition)
            self.erased += news
            return news
