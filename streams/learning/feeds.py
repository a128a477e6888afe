"""Reading for the learner: topics whole, without a group, through whatever outages Kafka has."""

import asyncio
import time
from collections.abc import Iterable, Mapping

import structlog

from streams.batches import RecordBatch
from streams.clients import KafkaConnection, describe
from streams.errors import KafkaUnavailableError, UnknownTopicError
from streams.learning.inbox import Inbox
from streams.reader import Partition, WholeReader, read_through
from streams.stopping import ended
from streams.topics import EXPERTS_UPDATES

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0


class Feed:
    """Read some topics into an inbox for ever, beginning again where it stopped when Kafka comes back.

    Args:
        connection: Where Kafka is.
        topics: Which topics.
        inbox: Takes the batches.
        start: Offset to begin at, by (topic, partition); partitions left out are read from their beginning.
        max_batch_events: Most records in one batch.
        stuck_s: Connect anew when nothing has come for this long, though Kafka has something or does not say.
    """

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        topics: Iterable[str],
        inbox: Inbox,
        start: Mapping[Partition, int] | None = None,
        max_batch_events: int = 2_000,
        stuck_s: float = 20.0,
    ) -> None:
        self._connection, self._topics, self._inbox = connection, tuple(topics), inbox
        self._positions = dict(start or {})
        self._max_batch_events = max_batch_events
        self._stuck_s = stuck_s
        self._taken = 0
        self._waits_for_room = False
        self.lag: int | None = None
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            UnknownTopicError: If a topic does not exist.
            LogRewoundError: If a topic was made anew, or lost its tail.
        """
        while True:
            try:
                async with self._connection.reaching("reading"):
                    await self._read()
            except KafkaUnavailableError as error:
                self.lag = None
                log.warning("reading_interrupted", topics=self._topics, error=str(error))
                await asyncio.sleep(error.retry_after_s)

    async def _read(self) -> None:
        """Read until something fails, with one connection."""
        reader = WholeReader(
            connection=self._connection,
            topics=self._topics,
            start=self._positions,
            max_batch_events=self._max_batch_events,
            client_id="alluvium-learner",
        )
        async with reader:
            tasks = {asyncio.create_task(work) for work in (self._take(reader), self._guard(reader))}
            watch = asyncio.create_task(self._watch(reader))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await ended((watch, *tasks))
            for task in done:
                task.result()

    async def _take(self, reader: WholeReader) -> None:
        async for batch in reader:
            self._waits_for_room = True
            await self._inbox.put(batch)
            self._waits_for_room = False
            self._taken += 1
            self._positions[batch.topic, batch.partition] = batch.next_offset

    async def _watch(self, reader: WholeReader) -> None:
        await reader.caught_up.wait()
        await self._inbox.drained()
        self.caught_up.set()

    async def _guard(self, reader: WholeReader) -> None:
        """Keep the lag up to date, and notice when nothing comes though there is something: connections can hang.

        Raises:
            KafkaUnavailableError: If that lasts.
        """
        taken, moved_at = self._taken, time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                async with asyncio.timeout(self._stuck_s):
                    self.lag = await reader.lag()
            except (TimeoutError, KafkaUnavailableError):
                self.lag = None
            if self._taken != taken or self._waits_for_room or self.lag == 0:
                taken, moved_at = self._taken, time.monotonic()
            elif (waited_s := time.monotonic() - moved_at) > self._stuck_s:
                raise KafkaUnavailableError(
                    bootstrap_servers=self._connection.bootstrap_servers,
                    doing="reading",
                    cause=f"nothing came for {waited_s:.0f} s, lag {self.lag}",
                    retry_after_s=1.0,
                )


async def first_offsets(connection: KafkaConnection, topic: str, known: Mapping[int, int]) -> dict[Partition, int]:
    """Where to begin with every partition of a topic: where we were, or at 0, so that what retention took is noticed.

    Raises:
        KafkaUnavailableError: If no broker answers.
        UnknownTopicError: If the topic does not exist.
    """
    _, counts = await describe(connection, [topic])
    if topic not in counts:
        raise UnknownTopicError(topic=topic, bootstrap_servers=connection.bootstrap_servers)
    return {(topic, partition): known.get(partition, 0) for partition in range(counts[topic])}


async def live_keys(connection: KafkaConnection) -> set[bytes]:
    """The keys of `experts.updates` that have a value.

    Raises:
        KafkaUnavailableError: If no broker answers.
    """
    live: set[bytes] = set()

    def note(batch: RecordBatch) -> None:
        for key, value in zip(batch.keys, batch.values, strict=True):
            live.discard(key or b"") if value is None else live.add(key or b"")

    async with WholeReader(connection=connection, topics=[EXPERTS_UPDATES], client_id="alluvium-learner") as reader:
        await read_through(reader, note)
    return live
