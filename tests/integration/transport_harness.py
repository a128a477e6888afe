"""What the transport's tests share: an app that remembers what its agent saw, and a look at committed offsets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.faust_app import batch_topic, make_app
from streams.publisher import Publisher

PATIENCE_S = 60.0
REAL: set[str] = set()  # addresses of real brokers
Work = Callable[[RecordBatch], Awaitable[None]]


async def until(condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = PATIENCE_S) -> None:
    """Wait for something to become true; fail if it does not."""
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


async def produce(
    connection: KafkaConnection, topic: str, count: int, *, partitions: int = 4, first: int = 0
) -> list[bytes]:
    """Values 0..count-1, number i in partition i % partitions."""
    values = [b"%d" % i for i in range(first, first + count)]
    runs: dict[int, list[tuple[bytes | None, bytes | None]]] = {p: [] for p in range(partitions)}
    for i, value in enumerate(values, first):
        runs[i % partitions].append((b"key-%d" % i, value))
    async with Publisher(connection=connection) as publisher:
        await publisher.send_runs(topic, runs)
    return values


async def committed(connection: KafkaConnection, group: str, topic: str, partitions: int = 4) -> dict[int, int | None]:
    """What Kafka holds as the group's offsets."""
    consumer = AIOKafkaConsumer(**connection.aiokafka(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(partitions)]
        consumer.assign(tps)
        return {tp.partition: await consumer.committed(tp) for tp in tps}
    finally:
        await consumer.stop()


def session_timeout_s(connection: KafkaConnection) -> float:
    """The embedded broker waits this long, less a second, in every rebalance; a real one accepts 6 s and more."""
    return 6.0 if connection.bootstrap_servers in REAL else 2.5


class Worker:
    """A running app with one agent on one hot topic."""

    def __init__(self, group: str, topic: str, connection: KafkaConnection, work: Work | None, settings: Any) -> None:
        self.batches: list[RecordBatch] = []
        extra = settings.pop("extra", None)
        self.app = make_app(
            group,
            connection=connection,
            hot_topics=[topic],
            **{"linger_ms": 10, "commit_interval_s": 0.1, "session_timeout_s": session_timeout_s(connection)}
            | settings,
        )

        @self.app.agent(batch_topic(self.app, topic), name=f"{group}-{id(self)}")
        async def agent(batches: Any) -> None:
            async for batch in batches:
                self.batches.append(batch)
                if work is not None:
                    await work(batch)

        if extra is not None:

            @self.app.agent(batch_topic(self.app, extra["topic"]), name=f"{group}-{id(self)}-extra")
            async def other(values: Any) -> None:
                async for value in values:
                    extra["seen"].append(value)

    def values(self) -> list[bytes]:
        return [value for batch in self.batches for value in batch.values if value is not None]

    def assigned(self) -> int:
        return len(self.app.consumer.done_offsets()) if self.app.started else 0


@contextlib.asynccontextmanager
async def working(
    group: str, topic: str, connection: KafkaConnection, work: Work | None = None, **settings: Any
) -> AsyncIterator[Worker]:
    """A worker until the block ends."""
    worker = Worker(group, topic, connection, work, settings)
    try:
        await worker.app.start()
        yield worker
    finally:
        await asyncio.wait_for(worker.app.stop(), 30)
