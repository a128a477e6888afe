"""A worker's agents in this process, on a broker of their own and a fresh database."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from feature_store.apply import apply
from streams.app import worker_app
from streams.clients import KafkaConnection
from streams.publisher import Publisher
from streams.topics import CLICKSTREAM_EVENTS, all_topics
from streams.worker import Worker
from tests.brokers import Broker

START = "2026-01-31T12:00:{second:02d}.{ms:03d}Z"


def event(
    number: int, *, user_id: str = "ada", item_id: str = "mug", event_type: str = "view", **more: Any
) -> dict[str, Any]:
    """A valid event; `number` orders it in time, a millisecond each."""
    return {
        "schema_version": 1,
        "event_id": f"e-{number}",
        "user_id": user_id,
        "item_id": item_id,
        "event_type": event_type,
        "event_time": START.format(second=number // 1000, ms=number % 1000),
    } | more


async def produce(
    connection: KafkaConnection, events: Sequence[dict[str, Any]], topic: str = CLICKSTREAM_EVENTS
) -> None:
    """Publish events keyed by their user."""
    async with Publisher(connection=connection) as publisher:
        await publisher.send_keyed(topic, [(e["user_id"].encode(), msgspec.json.encode(e)) for e in events])


@contextlib.asynccontextmanager
async def running_worker(broker: Broker, database_url: str, **settings: Any) -> AsyncIterator[tuple[Worker, Any]]:
    """A worker with its partitions, until the block ends; topics and tables are made where they are missing."""
    connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)
    worker = await Worker.create(
        connection=connection,
        postgres_url=database_url,
        **{"allowed_lateness_ms": 3_600_000, "allowed_skew_ms": 300_000, "ranking_linger_ms": 20} | settings,
    )
    app = worker_app(worker, linger_ms=20, session_timeout_s=10.0, commit_interval_s=0.1)
    try:
        await app.start()
        await until(lambda: worker.waits_for() is None, "the worker is ready")
        yield worker, app
    finally:
        await asyncio.wait_for(app.stop(), 30)
        await worker.stop()


def prepare(broker: Broker, database_url: str, partitions: int = 2) -> KafkaConnection:
    """Make topics and tables."""
    broker.create_topics(all_topics(partitions=partitions))
    apply(postgres_url=database_url)
    return KafkaConnection(bootstrap_servers=broker.bootstrap_servers)


async def until(condition: Any, what: str, timeout_s: float = 30.0) -> None:
    """Wait for something to become true."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {timeout_s:g} s in vain until {what}") from None


def consumed(broker: Broker, topic: str, *, patience_s: float = 30.0) -> list[Any]:
    """All records that a topic holds now, read by a client that is not ours."""
    options = {"api_version": (2, 3)} if broker.kind == "embedded" else {}
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", **options)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        give_up = time.monotonic() + patience_s
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            assert time.monotonic() < give_up, f"read {len(records)} records of {topic}, not up to {ends}"
            records += [record for run in consumer.poll(timeout_ms=200).values() for record in run]
        return records
    finally:
        consumer.close()
