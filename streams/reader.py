"""Reading topics whole and without a group: what every process needs to know all of (DESIGN section 3)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams.batches import RecordBatch, Run
from streams.clients import KafkaConnection, describe
from streams.errors import LogRewoundError, UnknownTopicError
from streams.fetching import FETCH_MAX_WAIT_MS
from streams.stopping import ended

NEW_PARTITIONS_EVERY_S = 30.0
STOP_TIMEOUT_S = 10.0
MAX_PARTITION_FETCH_BYTES = 4 * 1024 * 1024

Partition = tuple[str, int]


class WholeReader:
    """Reads every partition of some topics from given offsets, and goes on for ever.

    Batches of one partition come in order, each starting where the one before ended. `caught_up` is set once all that
    Kafka held when the reader started has been handed out and the next batch is asked for: whoever handles a batch
    before asking for another has by then handled everything. Partitions added later are read from their beginning.

    Args:
        connection: Where Kafka is.
        topics: Which topics.
        start: Offset to begin at, by (topic, partition); partitions left out are read from their beginning.
        max_batch_events: Most records in one batch; at least 1.
        isolation_level: "read_committed" or "read_uncommitted".
        client_id: Shown in Kafka's logs.
    """

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        topics: Iterable[str],
        start: Mapping[Partition, int] | None = None,
        max_batch_events: int = 5000,
        isolation_level: str = "read_committed",
        client_id: str = "alluvium-reader",
    ) -> None:
        self.caught_up = asyncio.Event()
        self.positions: dict[Partition, int] = dict(start or {})
        self.truncated: dict[Partition, int] = {}  # offsets that retention had deleted before they could be read
        self._connection, self._topics = connection, sorted(topics)
        self._max_batch_events, self._isolation_level, self._client_id = max_batch_events, isolation_level, client_id
        self._consumer: AIOKafkaConsumer | None = None
        self._ends: dict[Partition, int] = {}
        self._look_again_at = 0.0
        self._lost: dict[Partition, int] = {}  # truncated, not yet told in a batch

    async def start(self) -> Self:
        """Connect, and note where the logs end.

        Raises:
            KafkaUnavailableError: If no broker answers.
            UnknownTopicError: If a topic does not exist.
            LogRewoundError: If a log ends before the offset at which it should be read on.
        """
        self._consumer = consumer = AIOKafkaConsumer(
            **self._connection.aiokafka(),
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=self._isolation_level,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        )
        try:
            async with self._connection.reaching("starting a reader"):
                await consumer.start()
                await self._assign()
                self._ends = await self._end_offsets(list(self.positions))
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await consumer.stop()
            except TimeoutError:  # after an outage, it may wait for a fetch that nobody will answer
                await consumer._client.close()  # noqa: SLF001 - nothing else closes its connections then

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def __aiter__(self) -> AsyncIterator[RecordBatch]:
        """Batches as they come; ends when the reader is stopped."""
        while (consumer := self._consumer) is not None:
            self._notice_caught_up()
            if monotonic() >= self._look_again_at:
                async with self._connection.reaching("looking for new partitions"):
                    await self._assign()
            for batch in await self._fetch(consumer):
                yield batch

    async def lag(self) -> int:
        """Records, by offsets, that Kafka has and the reader has not yet handed out."""
        async with self._connection.reaching("asking for end offsets"):
            ends = await self._end_offsets(list(self.positions))
        return sum(max(end - self.positions[tp], 0) for tp, end in ends.items())

    def _notice_caught_up(self) -> None:
        if not self.caught_up.is_set() and all(self.positions[tp] >= end for tp, end in self._ends.items()):
            self.caught_up.set()

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the reader is not started")
        return self._consumer

    async def _fetch(self, consumer: AIOKafkaConsumer) -> list[RecordBatch]:
        starts = dict(self.positions)
        fetched: Mapping[Any, list[Any]] = {}
        async with self._connection.reaching("reading"):
            try:
                fetched = await consumer.getmany(timeout_ms=200, max_records=self._max_batch_events)
            except OffsetOutOfRangeError as exc:
                await self._skip_truncated([(tp.topic, tp.partition) for tp in exc.args[0]])
                return []
            for tp in self.positions:  # also where only markers were passed
                self.positions[tp] = await consumer.position(TopicPartition(*tp))
        batches = []
        for tp, records in fetched.items():
            run = Run(tp.topic, tp.partition, starts[tp])
            run.truncated = self._lost.pop((tp.topic, tp.partition), 0)
            run.extend(records, position=self.positions[tp])
            batches.append(run.batch())
        return batches

    async def _end_offsets(self, partitions: list[Partition]) -> dict[Partition, int]:
        ends = await self._started().end_offsets([TopicPartition(*tp) for tp in partitions])
        return {(tp.topic, tp.partition): end for tp, end in ends.items()}

    async def _assign(self) -> None:
        """Read all partitions that there are, old ones from where we are."""
        consumer = self._started()
        self._look_again_at = monotonic() + NEW_PARTITIONS_EVERY_S
        _, counts = await describe(self._connection, self._topics)
        for topic in self._topics:
            if topic not in counts:
                raise UnknownTopicError(topic=topic, bootstrap_servers=self._connection.bootstrap_servers)
        partitions = [(topic, number) for topic in self._topics for number in range(counts[topic])]
        if len(consumer.assignment()) == len(partitions):
            return
        whole = [TopicPartition(*tp) for tp in partitions]
        consumer.assign(whole)
        for tp, offset in (await consumer.beginning_offsets(whole)).items():
            self.positions.setdefault((tp.topic, tp.partition), offset)
        for tp in whole:
            consumer.seek(tp, self.positions[tp])
        await self._check_ends()

    async def _check_ends(self) -> None:
        for tp, end in (await self._end_offsets(list(self.positions))).items():
            if self.positions[tp] > end:
                raise LogRewoundError(topic=tp[0], partition=tp[1], wanted=self.positions[tp], found=end)

    async def _skip_truncated(self, partitions: list[Partition]) -> None:
        """Go on at the logs' beginnings and count what is gone."""
        await self._check_ends()
        begins = await self._started().beginning_offsets([TopicPartition(*tp) for tp in partitions])
        for tp, begin in begins.items():
            key = (tp.topic, tp.partition)
            gone = max(begin - self.positions[key], 0)
            self.truncated[key] = self.truncated.get(key, 0) + gone
            self._lost[key] = self._lost.get(key, 0) + gone
            self._started().seek(tp, begin)
            self.positions[key] = begin


async def read_through(reader: WholeReader, handle: Callable[[RecordBatch], object]) -> None:
    """Hand over all that Kafka held when the reader started, perhaps more, and return.

    Raises:
        KafkaUnavailableError: If Kafka stops answering.
    """

    async def read() -> None:
        async for batch in reader:
            handle(batch)

    reading, caught_up = asyncio.create_task(read()), asyncio.create_task(reader.caught_up.wait())
    try:
        done, _ = await asyncio.wait({reading, caught_up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended((reading, caught_up))
    if reading in done:
        reading.result()
