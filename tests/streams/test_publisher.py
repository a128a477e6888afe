import asyncio
import os

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.codec import lz4_encode

from infra.processes import free_port
from streams.clients import KafkaConnection
from streams.errors import EventTooLargeError, KafkaUnavailableError, NotDeliveredError, UnknownTopicError
from streams.partitioning import partition_of
from streams.publisher import BATCH_BYTES, RECORD_BYTES, Outgoing, Publisher
from tests.brokers import Broker
from tests.reading import all_batches


@pytest.fixture
def connection(kafka: Broker) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)


async def read_back(connection: KafkaConnection, *topics: str) -> dict[tuple[str, int], list[tuple]]:
    found: dict[tuple[str, int], list[tuple]] = {}
    for batch in await all_batches(connection, *topics):
        found.setdefault((batch.topic, batch.partition), []).extend(zip(batch.keys, batch.values, strict=True))
    return found


async def test_records_land_in_their_partition_in_the_order_sent(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=2)
    runs = {p: [(b"k%d" % p, b"%d-%d" % (p, i)) for i in range(5000)] for p in range(2)}
    async with Publisher(connection=connection) as publisher:
        for start in range(0, 5000, 500):
            await publisher.send_runs(topic, {p: run[start : start + 500] for p, run in runs.items()})
    assert await read_back(connection, topic) == {(topic, p): run for p, run in runs.items()}


async def test_calls_at_once_do_not_interleave(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=1)
    large = [[(b"%d" % call, os.urandom(100_000)) for _ in range(6)] for call in range(4)]  # several batches each
    async with Publisher(connection=connection) as publisher:
        await asyncio.gather(*[publisher.send_runs(topic, {0: run}) for run in large])
    keys = [key for key, _ in (await read_back(connection, topic))[topic, 0]]
    assert sorted(keys) == [b"%d" % call for call in range(4) for _ in range(6)]
    assert all(len(set(keys[i : i + 6])) == 1 for i in range(0, 24, 6))


async def test_keyed_records_go_where_java_sends_them(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=5)
    records = [(b"user-%d" % (i % 97), b"%d" % i) for i in range(1000)]
    async with Publisher(connection=connection) as publisher:
        await publisher.send_keyed(topic, records)
        await publisher.send([Outgoing(topic, None, key, value) for key, value in records])
    for (_, partition), found in (await read_back(connection, topic)).items():
        expected = [record for record in records if partition_of(record[0], 5) == partition]
        assert found == expected * 2


async def test_headers_timestamps_and_tombstones_are_kept(kafka: Broker, connection: KafkaConnection) -> None:
    topic, other = kafka.topic(partitions=1), kafka.topic(partitions=2)
    async with Publisher(connection=connection) as publisher:
        await publisher.send(
            [
                Outgoing(topic, 0, b"k", None, [("why", b"delisted")], 1_700_000_000_123),
                (other, 1, None, b"v", [("a", b"1"), ("b", b"2")]),
            ]
        )
    consumer = AIOKafkaConsumer(topic, other, **connection.aiokafka(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        records = [await asyncio.wait_for(consumer.getone(), 10) for _ in range(2)]
    finally:
        await consumer.stop()
    first, second = sorted(records, key=lambda r: r.topic != topic)
    assert (first.key, first.value, first.headers, first.timestamp) == (
        b"k",
        None,
        (("why", b"delisted"),),
        1_700_000_000_123,
    )
    assert (second.partition, second.key, second.headers) == (1, None, (("a", b"1"), ("b", b"2")))


async def test_a_record_larger_than_a_batch_travels_alone(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=1)
    run = [(b"k", b"small"), (b"k", os.urandom(3 * BATCH_BYTES)), (b"k", b"small again")]
    async with Publisher(connection=connection) as publisher:
        await publisher.send_runs(topic, {0: run})
    assert (await read_back(connection, topic))[topic, 0] == run


async def test_a_record_too_large_is_refused_before_anything_is_sent(
    kafka: Broker, connection: KafkaConnection
) -> None:
    topic = kafka.topic(partitions=1)
    huge = bytes(RECORD_BYTES)
    async with Publisher(connection=connection) as publisher:
        with pytest.raises(EventTooLargeError, match=f"a record for {topic} has 1114[0-9]+ bytes; at most 1114112"):
            await publisher.send_runs(topic, {0: [(b"k", b"first"), (b"k", huge)]})
        with pytest.raises(EventTooLargeError):
            await publisher.send([Outgoing(topic, 0, b"k", b"first"), Outgoing(topic, 0, b"k", huge)])
        await publisher.send([Outgoing(topic, 0, b"k", huge)], shorten=lambda out: out._replace(value=out.value[:10]))
    assert (await read_back(connection, topic))[topic, 0] == [(b"k", huge[:10])]


async def test_a_start_that_fails_leaves_nothing_open() -> None:
    publisher = Publisher(connection=KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    with pytest.raises(KafkaUnavailableError, match="starting a producer"):
        await publisher.start()
    assert publisher._producer is None


async def test_a_topic_that_does_not_exist_is_named(kafka: Broker, connection: KafkaConnection) -> None:
    async with Publisher(connection=connection) as publisher:
        with pytest.raises(UnknownTopicError, match=r"topic 'nowhere' does not exist .* `alluvium topics apply`"):
            await publisher.send_keyed("nowhere", [(b"k", b"v")])


async def test_a_partition_that_does_not_exist_is_an_error(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=2)
    async with Publisher(connection=connection) as publisher:
        with pytest.raises(NotDeliveredError, match=f"{topic}/7"):
            await publisher.send_runs(topic, {7: [(b"k", b"v")]})


async def test_a_broker_that_went_away_is_noticed_and_the_publisher_refuses_to_go_on(embedded_kafka) -> None:
    connection = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
    topic = embedded_kafka.topic(partitions=1)
    async with Publisher(connection=connection, timeout_s=2) as publisher:
        await publisher.send_runs(topic, {0: [(b"k", b"v")]})
        embedded_kafka.close()
        with pytest.raises(KafkaUnavailableError, match="no acknowledgement within 2 s"):
            await publisher.send_runs(topic, {0: [(b"k", b"v")]})
        with pytest.raises(KafkaUnavailableError, match="no acknowledgement within 2 s"):
            await publisher.send_runs(topic, {0: [(b"k", b"v")]})


async def test_a_producer_in_trouble_repeats_nothing(real_kafka) -> None:
    if real_kafka.cluster is None:
        pytest.skip("this broker is somebody else's; it must not be killed")
    connection, topic = KafkaConnection(bootstrap_servers=real_kafka.bootstrap_servers), real_kafka.topic(partitions=1)
    async with Publisher(connection=connection) as publisher:
        sending = asyncio.create_task(send_slowly(publisher, topic))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(real_kafka.cluster.kill)
        await asyncio.to_thread(real_kafka.cluster.restart)
        await asyncio.wait_for(sending, 60)
    found = [value for _, value in (await read_back(connection, topic))[topic, 0]]
    assert found == [b"%d" % i for i in range(300)]


async def send_slowly(publisher: Publisher, topic: str) -> None:
    for i in range(300):
        await publisher.send_runs(topic, {0: [(b"k", b"%d" % i)]})
        await asyncio.sleep(0.005)


def test_batches_are_compressed_quickly() -> None:
    payload = b"".join(b'{"user_id":"user-%d","event_type":"view"}' % number for number in range(1000))
    assert lz4_encode(payload) == lz4_encode(payload, level=1)
    assert len(lz4_encode(payload)) < len(payload) / 2
