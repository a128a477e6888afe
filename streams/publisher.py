"""Producing: many records at once, each acknowledged by Kafka before the call returns."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.codec import lz4_encode
from aiokafka.errors import KafkaError

from streams.clients import KafkaConnection, describe
from streams.errors import EventTooLargeError, KafkaUnavailableError, NotDeliveredError, UnknownTopicError
from streams.partitioning import remembered
from streams.topics import DLQ_HEADROOM_BYTES

BATCH_BYTES = 256 * 1024  # before compression; a larger record travels alone
RECORD_BYTES = 1024 * 1024 + DLQ_HEADROOM_BYTES  # Kafka's default for topics, and the headroom of dead letters
RECORD_OVERHEAD_BYTES = 96  # batch and record headers around one record's key and value
NULL_KEY = b""  # where keyless records go is of no importance; that they spread is not either, as none should come


# aiokafka compresses at level 9: sixteen times the time of level 1 (1.8 against 0.11 us an event) for a tenth less
lz4_encode.__defaults__ = (1,)


class Outgoing(NamedTuple):
    """One record to publish; `partition` None: by the key's hash."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None  # None: now


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> int:
    """Bytes of a record on the wire, rather more than less."""
    size = len(key or b"") + len(value or b"") + RECORD_OVERHEAD_BYTES
    return size + sum(len(name) + len(content) + 4 for name, content in headers) if headers else size


def _check_size(topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
    if (size := _size(key, value, headers)) > RECORD_BYTES:
        raise EventTooLargeError(topic=topic, size_bytes=size, limit_bytes=RECORD_BYTES)


class Publisher:
    """Sends records and waits for Kafka's acknowledgement of every one of them.

    Records of one partition are appended in the order given, within a call and from call to call. Producing is
    idempotent with `acks=all`: Kafka drops what a retry repeats. After a failure the order can no longer be held; the
    publisher then refuses all further work, and whoever uses it starts again from what is committed.

    Args:
        connection: Where Kafka is.
        client_id: Shown in Kafka's logs.
        timeout_s: How long a call waits for acknowledgements.
        compression: "lz4", "gzip", "snappy", "zstd" or None.
    """

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        client_id: str = "alluvium",
        timeout_s: float = 60.0,
        compression: str | None = "lz4",
    ) -> None:
        self._connection, self._client_id = connection, client_id
        self._timeout_s, self._compression = timeout_s, compression
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._partitioners: dict[str, Callable[[bytes], int]] = {}
        self._locks: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._broken: str | None = None

    async def start(self) -> Self:
        """Connect.

        Raises:
            KafkaUnavailableError: If no broker answers.
        """
        self._producer = AIOKafkaProducer(
            **self._connection.aiokafka(),
            client_id=self._client_id,
            enable_idempotence=True,  # and with it acks=all
            compression_type=self._compression,
            max_batch_size=BATCH_BYTES,
            max_request_size=RECORD_BYTES,
            request_timeout_ms=int(min(self._timeout_s, 30.0) * 1000),
        )
        try:
            async with self._connection.reaching("starting a producer"):
                await self._producer.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Close the connection; what a failed call left behind is not waited for."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            try:
                async with asyncio.timeout(1.0 if self._broken else self._timeout_s):
                    await producer.stop()
            except TimeoutError:
                await producer.client.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; asked once.

        Raises:
            UnknownTopicError: If it does not exist.
        """
        if topic not in self._partitions:
            _, counts = await describe(self._connection, [topic])
            if topic not in counts:
                raise UnknownTopicError(topic=topic, bootstrap_servers=self._connection.bootstrap_servers)
            self._partitions[topic] = counts[topic]
            self._partitioners[topic] = remembered(counts[topic])
        return self._partitions[topic]

    async def partitioner(self, topic: str) -> Callable[[bytes], int]:
        """The function from a key to its partition of a topic."""
        await self.partitions(topic)
        return self._partitioners[topic]

    async def send(
        self, records: Iterable[Sequence[Any]], *, shorten: Callable[[Outgoing], Outgoing] | None = None
    ) -> None:
        """Publish records of any topics and partitions, and wait until Kafka has them all.

        Args:
            records: `Outgoing`, or plain tuples of its first four to six fields.
            shorten: Makes a record that is too large small enough; None: such a record is an error.

        Raises:
            EventTooLargeError: If a record is larger than Kafka takes; then none was sent.
            KafkaUnavailableError: If Kafka did not acknowledge in time.
            NotDeliveredError: If Kafka refused.
        """
        runs: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        for record in records:
            out = record if type(record) is Outgoing else Outgoing(*record)
            if shorten is not None and _size(out.key, out.value, out.headers) > RECORD_BYTES:
                out = shorten(out)
            _check_size(out.topic, out.key, out.value, out.headers)
            partition = out.partition
            if partition is None:
                partition = (await self.partitioner(out.topic))(out.key or NULL_KEY)
            runs[out.topic, partition].append(out)
        await self._deliver({tp: self._pack(run) for tp, run in runs.items()})

    async def send_runs(self, topic: str, runs: Mapping[int, Sequence[tuple[bytes | None, bytes | None]]]) -> None:
        """The fast way: keys and values of one topic, by partition; as `send` otherwise."""
        for run in runs.values():
            for key, value in run:
                _check_size(topic, key, value)
        await self._deliver({(topic, partition): self._pack_plain(run) for partition, run in runs.items() if run})

    async def send_keyed(self, topic: str, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Keys and values of one topic, each to the partition of its key; as `send` otherwise."""
        partition_of = await self.partitioner(topic)
        runs: dict[int, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
        for record in records:
            runs[partition_of(record[0])].append(record)
        await self.send_runs(topic, runs)

    # Packing

    def _started(self) -> AIOKafkaProducer:
        if self._broken is not None or self._producer is None:
            cause = self._broken or "the publisher is not started"
            raise KafkaUnavailableError(
                bootstrap_servers=self._connection.bootstrap_servers, doing="publishing", cause=cause
            )
        return self._producer

    def _pack(self, run: Iterable[Outgoing]) -> list[Any]:
        create = self._started().create_batch
        batches = [create()]
        for _, _, key, value, headers, timestamp_ms in run:
            arguments = {"timestamp": timestamp_ms, "key": key, "value": value, "headers": list(headers)}
            if batches[-1].append(**arguments) is None:
                batches.append(create())
                batches[-1].append(**arguments)
        return batches

    def _pack_plain(self, run: Iterable[tuple[bytes | None, bytes | None]]) -> list[Any]:
        create = self._started().create_batch
        batches = [create()]
        append = batches[-1].append
        for key, value in run:
            if append(timestamp=None, key=key, value=value) is None:
                batches.append(create())
                append = batches[-1].append
                append(timestamp=None, key=key, value=value)
        return batches

    # Delivery

    async def _deliver(self, batches: Mapping[tuple[str, int], list[Any]]) -> None:
        if not batches:
            return
        self._started()
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.gather(*[self._deliver_to(tp, queue) for tp, queue in batches.items()])
        except TimeoutError as exc:
            self._broken = f"no acknowledgement within {self._timeout_s:g} s"
            raise KafkaUnavailableError(
                bootstrap_servers=self._connection.bootstrap_servers, doing="publishing", cause=self._broken
            ) from exc

    async def _deliver_to(self, tp: tuple[str, int], queue: list[Any]) -> None:
        topic, partition = tp
        producer = self._started()
        try:
            async with self._locks[tp]:  # two calls at once must not interleave their batches
                waiting = []
                for batch in queue:
                    batch.close()
                    waiting.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*waiting)
        except (KafkaError, AssertionError) as exc:
            self._broken = f"{topic}/{partition} was refused: {exc}"
            raise NotDeliveredError(topic=topic, partition=partition, cause=str(exc)) from exc
