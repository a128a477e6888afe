"""A Faust transport at full speed: one message per run of records instead of one per record.

Stock Faust spends about 100 us of Python on every message. Here each run of records of one partition of a *hot* topic
is ONE Faust message whose value is a `RecordBatch`; agents, streams, rebalances and commits stay Faust's own.

    app = make_app("alluvium", connection=connection, hot_topics=[CLICKSTREAM_EVENTS], start_offset=ledger_offset)

    @app.agent(batch_topic(app, CLICKSTREAM_EVENTS), concurrency=1)
    async def ingest(batches):
        async for batch in batches:      # RecordBatch
            await flush(batch)           # acknowledged when the body is done; never if it raises

What holds, and is tested:

- The committed offset is the end of the last batch whose predecessors are all acknowledged. A batch in work, or whose
  agent died, is never committed.
- Reading starts where `start_offset(topic, partition)` says (our ledger in Postgres), asked at every assignment;
  Kafka's committed offset is used only if it says None, and the log's beginning if there is none either.
- Batches of a partition chain: each starts where the one before ended. A batch that does not, after a rebalance that
  discarded one or a seek that raced, is dropped and read again. Offsets that retention deleted before we came are
  counted in `RecordBatch.truncated`; a log that ends before our offset is a `LogRewoundError`.
- At low rates a partition's batches come at least `linger_ms` apart, and none while the one before is in work, so that
  one flush takes what came meanwhile; full batches go out at once.
- Values arrive as they were sent: hot topics have a schema that decodes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

from faust.transport.consumer import ensure_TP
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP, ConsumerMessage, Message
from mode import Service
from mode.utils.futures import maybe_async

from streams.batches import RecordBatch, Run
from streams.clients import KafkaConnection
from streams.errors import LogRewoundError
from streams.fetching import Batching, BatchingConsumerThread
from streams.handouts import Handouts

__all__ = ["Batching", "BatchingConsumer", "BatchingTransport", "RecordBatch", "StartOffset"]

StartOffset = Callable[[str, int], int | Awaitable[int | None] | None]
CREATE_TIME = 0
GROUP_CHECK_S = 0.5


def committed_offsets(_topic: str, _partition: int) -> int | None:
    """The default of `start_offset`: go on where Kafka says the group was."""
    return None


class BatchingConsumer(Consumer):
    """Faust's consumer, with offsets of hot topics counted in batches."""

    transport: "BatchingTransport"
    _thread: BatchingConsumerThread

    def __init__(self, transport: "BatchingTransport", *args: Any, **kwargs: Any) -> None:
        self.batching = transport.batching
        self.connection = transport.connection
        self._hot = transport.batching.hot_topics
        self._handouts: dict[TP, Handouts] = {}
        self._seeking = asyncio.Lock()
        self._fetching: asyncio.Task[Any] | None = None
        super().__init__(transport, *args, **kwargs)

    def _new_consumer_thread(self) -> BatchingConsumerThread:
        return BatchingConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @Service.task
    async def _watch_group(self) -> None:
        async for _ in self.itertimer(GROUP_CHECK_S, name="group"):
            await self._thread.check_group()

    # Where to start

    async def perform_seek(self) -> None:
        """Go to the ledger's offsets; called after every assignment, before anything is delivered.

        Raises:
            LogRewoundError: If a partition ends before the offset that its ledger names.
        """
        if asyncio.current_task() is self._fetching:
            return  # `getmany` in mid-rebalance, which ends with a seek; this one would forget running batches
        async with self._seeking:
            # Faust would go on without the seek when its own time is up
            async with asyncio.timeout(0.8 * self.app.conf.broker_request_timeout):
                await super().perform_seek()
                await self._seek_hot([ensure_TP(tp) for tp in self.assignment() if tp.topic in self._hot])

    async def _seek_hot(self, hot: list[TP]) -> None:
        starts = {}
        earliest, ends = (await self.earliest_offsets(*hot), await self.highwaters(*hot)) if hot else ({}, {})
        for tp in hot:
            start = await maybe_async(self.transport.start_offset(tp.topic, tp.partition))
            if start is None:
                start = self._committed_offset[tp]
            if start is None:
                start = earliest[tp]
            if start > ends[tp]:
                raise LogRewoundError(topic=tp.topic, partition=tp.partition, wanted=start, found=ends[tp])
            starts[tp] = start
        if starts:
            await self._thread.seek_wait(starts)
        self._handouts = {tp: Handouts(expected=start) for tp, start in starts.items()}
        for tp, start in starts.items():
            self._committed_offset[tp] = start
            self._read_offset[tp] = start or None

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let running batches end, commit them, forget the rest."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._handouts.pop(tp, None)

    # What is delivered

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - Faust's signature
        self._fetching = asyncio.current_task()
        async for tp, message in super().getmany(timeout):
            if type(message.value) is not Run or await self._admit(tp, message):
                yield tp, message

    async def _admit(self, tp: TP, message: Message) -> bool:
        """Whether a run goes on exactly where the one before ended; if so it becomes a batch."""
        run: Run = message.value
        handouts = self._handouts.get(tp)
        if handouts is None:
            return False  # fetched before a rebalance that took the partition away
        if run.start != handouts.expected:
            self.log.info("%s: run starts at %s, %s is next; reading again", tp, run.start, handouts.expected)
            await self._thread.seek_wait({tp: handouts.expected})
            return False
        message.value = run.batch()
        handouts.add(message)
        return True

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if type(record) is not Run:
            return super()._to_message(tp, record)
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.offsets[0],
            record.timestamps_ms[-1] / 1000,
            CREATE_TIME,
            None,
            None,
            record,
            None,
            0,
            len(record),
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    # What is done

    def ack(self, message: Message) -> bool:
        acked: bool = super().ack(message)
        if message.topic in self._hot:
            self._thread.wake()
        return acked

    def outstanding(self, tp: TP) -> int:
        """Batches of a partition that agents have not finished."""
        handouts = self._handouts.get(tp)
        return 0 if handouts is None else handouts.outstanding()

    def done_offsets(self) -> dict[tuple[str, int], int]:
        """Of each hot partition that is ours, the offset below which everything has taken effect."""
        for handouts in self._handouts.values():
            handouts.outstanding()
        return {(tp.topic, tp.partition): handouts.done for tp, handouts in self._handouts.items()}

    def lags(self) -> dict[tuple[str, int], int]:
        """Of each hot partition that is ours, how many offsets are fetched or known to exist, but not done.

        A partition that ends in transaction markers has no lag once its last batch is done.
        """
        return {
            (tp.topic, tp.partition): max(handouts.expected - handouts.done, 0) + self._thread.ahead(tp)
            for tp, handouts in self._handouts.items()
        }

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in {*self._acked, *self._handouts}:
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        """The offset to commit. Faust's own count, which goes by single offsets, is kept from growing."""
        if tp.topic not in self._hot:
            offset: int | None = super()._new_offset(tp)
            return offset
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        handouts = self._handouts.get(tp)
        return None if handouts is None else handouts.committable()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self._hot:
            await super()._add_gap(tp, offset_from, offset_to)


class BatchingTransport(Transport):
    """Faust's aiokafka transport with batches for hot topics; see this module's description.

    Args:
        url: Of the brokers, as `app.conf.broker_consumer` has them.
        app: The Faust app.
        connection: Security settings.
        batching: Which topics, how large, how long.
        start_offset: Where to read on, given topic and partition; may be a coroutine function; None: Kafka's commit.
    """

    Consumer = BatchingConsumer

    def __init__(
        self,
        url: Iterable[Any],
        app: Any,
        *,
        connection: KafkaConnection,
        batching: Batching,
        start_offset: StartOffset = committed_offsets,
    ) -> None:
        super().__init__(list(url), app)
        self.connection, self.batching, self.start_offset = connection, batching, start_offset
