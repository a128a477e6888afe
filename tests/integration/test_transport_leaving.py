"""A worker that stops while its group rebalances leaves it, and its connections are closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams import fetching
from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from tests.brokers import Broker
from tests.integration.transport_harness import Worker, produce, until, working


def open_connections(worker: Worker) -> list[str]:
    """Of its consumer."""
    client = worker.app.consumer._thread._consumer._client
    return [str(connection) for connection in client._conns.values() if connection.connected()]


async def members(connection: KafkaConnection, group: str) -> int:
    """How many Kafka counts in the group; only a real one says."""
    admin = AIOKafkaAdminClient(**connection.aiokafka())
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        return len(answer.to_object()["groups"][0]["members"])
    finally:
        await admin.close()


async def test_a_worker_that_stops_in_mid_rebalance_leaves_its_group_at_once(
    kafka: Broker, connection: KafkaConnection, group: str
) -> None:
    topic, release = kafka.topic(), asyncio.Event()

    async def slow(batch: RecordBatch) -> None:
        await release.wait()

    async with working(group, topic, connection, slow) as first:
        await until(lambda: first.assigned() == 4)
        await produce(connection, topic, 4)
        await until(lambda: len(first.batches) == 1)
        stopping = asyncio.create_task(first.app.stop())  # waits for the batch in work
        second = Worker(group, topic, connection, None, {})
        joining = asyncio.create_task(second.app.start())  # ends with its share of the partitions
        try:
            await until(lambda: first.app.rebalancing)
            release.set()
            await asyncio.wait_for(stopping, 30)
            assert open_connections(first) == []
            if kafka.kind == "real":
                assert await members(connection, group) == 1
            await until(lambda: second.assigned() == 4)
        finally:
            await joining
            await asyncio.wait_for(second.app.stop(), 30)
        assert open_connections(second) == []


class Stuck(ConsumerRebalanceListener):
    """A member that holds up every rebalance."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if list(revoked):
            self.asked.set()
            await self.go_on.wait()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to do."""


@contextlib.asynccontextmanager
async def member(
    connection: KafkaConnection, group: str, topic: str, listener: ConsumerRebalanceListener
) -> AsyncIterator[AIOKafkaConsumer]:
    """A plain consumer that has asked to join the group."""
    consumer = AIOKafkaConsumer(
        **connection.aiokafka(),
        group_id=group,
        enable_auto_commit=False,
        partition_assignment_strategy=[fetching.CopartitionedAssignor],
    )
    await consumer.start()
    try:
        consumer.subscribe([topic], listener=listener)
        yield consumer
    finally:
        await consumer.stop()


@pytest.mark.parametrize("kafka", ["real"], indirect=True)  # the embedded broker waits for no member
async def test_a_stop_does_not_wait_for_a_member_that_is_stuck(
    kafka: Broker, connection: KafkaConnection, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LEAVE_S", 1.0)
    topic, stuck, other = kafka.topic(), Stuck(), Stuck()
    async with working(group, topic, connection) as worker, member(connection, group, topic, stuck) as consumer:
        try:
            await until(lambda: worker.assigned() == 2 and len(consumer.assignment()) == 2)
            async with member(connection, group, topic, other):
                await stuck.asked.wait()
                await until(lambda: worker.app.rebalancing)
                await asyncio.wait_for(worker.app.stop(), 10)
                assert open_connections(worker) == []
                stuck.go_on.set()
        finally:
            stuck.go_on.set()
            other.go_on.set()
