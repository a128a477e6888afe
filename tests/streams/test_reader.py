import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from streams import reader as reader_module
from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.errors import LogRewoundError, UnknownTopicError
from streams.publisher import Publisher
from streams.reader import WholeReader
from tests.brokers import Broker, unique_name
from tests.integration.transport_harness import until


@pytest.fixture
def connection(kafka: Broker) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)


async def fill(connection: KafkaConnection, topic: str, partitions: int, count: int, first: int = 0) -> None:
    async with Publisher(connection=connection) as publisher:
        run = [(b"k", b"%d" % i) for i in range(first, first + count)]
        await publisher.send_runs(topic, dict.fromkeys(range(partitions), run))


async def take(reader: WholeReader, count: int) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    async with asyncio.timeout(30):
        async for batch in reader:
            batches.append(batch)
            if sum(map(len, batches)) >= count:
                break
    return batches


async def test_all_partitions_of_all_topics_are_read_from_their_beginning(
    kafka: Broker, connection: KafkaConnection
) -> None:
    one, two = kafka.topic(partitions=3), kafka.topic(partitions=1)
    await fill(connection, one, 3, 1000)
    await fill(connection, two, 1, 500)
    async with WholeReader(connection=connection, topics=[one, two], max_batch_events=300) as reader:
        batches = await take(reader, 3500)
        assert sum(map(len, batches)) == 3500
        assert max(map(len, batches)) <= 300
        for tp, count in [((one, 0), 1000), ((one, 1), 1000), ((one, 2), 1000), ((two, 0), 500)]:
            own = [batch for batch in batches if (batch.topic, batch.partition) == tp]
            assert [value for batch in own for value in batch.values] == [b"%d" % i for i in range(count)]
            assert reader.positions[tp] == count
        assert await reader.lag() == 0


async def test_reading_starts_at_the_offsets_given(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=2)
    await fill(connection, topic, 2, 100)
    async with WholeReader(connection=connection, topics=[topic], start={(topic, 0): 90, (topic, 1): 100}) as reader:
        batches = await take(reader, 10)
        assert [(b.partition, b.first_offset, b.next_offset) for b in batches] == [(0, 90, 100)]


async def test_it_has_caught_up_only_when_all_that_was_there_has_been_handled(
    kafka: Broker, connection: KafkaConnection
) -> None:
    topic = kafka.topic(partitions=1)
    await fill(connection, topic, 1, 50)
    async with WholeReader(connection=connection, topics=[topic]) as reader:
        handled = 0

        async def handle() -> None:
            nonlocal handled
            async for batch in reader:
                assert not reader.caught_up.is_set() or batch.first_offset >= 50
                handled += len(batch)

        handling = asyncio.create_task(handle())
        await asyncio.wait_for(reader.caught_up.wait(), 20)
        assert handled == 50
        await fill(connection, topic, 1, 5, first=50)
        await until(lambda: handled == 55)
        handling.cancel()
        await asyncio.wait([handling])


async def test_empty_topics_are_caught_up_with_at_once(kafka: Broker, connection: KafkaConnection) -> None:
    async with WholeReader(connection=connection, topics=[kafka.topic()]) as reader:
        reading = asyncio.create_task(take(reader, 1))
        await asyncio.wait_for(reader.caught_up.wait(), 20)
        reading.cancel()
        await asyncio.wait([reading])


async def test_a_topic_that_does_not_exist_is_named(kafka: Broker, connection: KafkaConnection) -> None:
    with pytest.raises(UnknownTopicError, match="topic 'nowhere' does not exist"):
        await WholeReader(connection=connection, topics=["nowhere"]).start()


async def test_an_offset_beyond_the_end_is_refused(kafka: Broker, connection: KafkaConnection) -> None:
    topic = kafka.topic(partitions=1)
    await fill(connection, topic, 1, 10)
    with pytest.raises(LogRewoundError, match="ends at offset 10, yet everything below 11 was read"):
        await WholeReader(connection=connection, topics=[topic], start={(topic, 0): 11}).start()


async def test_what_retention_took_is_counted(real_kafka) -> None:
    connection, topic = KafkaConnection(bootstrap_servers=real_kafka.bootstrap_servers), real_kafka.topic(partitions=1)
    await fill(connection, topic, 1, 100)
    admin = AIOKafkaAdminClient(**connection.aiokafka())
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=70)})
    await admin.close()
    async with WholeReader(connection=connection, topics=[topic], start={(topic, 0): 20}) as reader:
        batches = await take(reader, 30)
        assert [batch.truncated for batch in batches] == [50]
        assert reader.truncated == {(topic, 0): 50}
        assert batches[0].first_offset == 70


async def test_partitions_added_later_are_read_too(real_kafka, monkeypatch) -> None:
    monkeypatch.setattr(reader_module, "NEW_PARTITIONS_EVERY_S", 0.2)
    connection, topic = KafkaConnection(bootstrap_servers=real_kafka.bootstrap_servers), real_kafka.topic(partitions=1)
    await fill(connection, topic, 1, 10)
    async with WholeReader(connection=connection, topics=[topic]) as reader:
        await take(reader, 10)
        admin = AIOKafkaAdminClient(**connection.aiokafka())
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(total_count=2)})
        await admin.close()
        await asyncio.sleep(1)
        async with Publisher(connection=connection) as publisher:
            await publisher.send_runs(topic, {0: [(b"k", b"old")], 1: [(b"k", b"new")]})
        batches = await take(reader, 2)
        assert {(b.partition, b.first_offset, b.values[0]) for b in batches} == {(0, 10, b"old"), (1, 0, b"new")}


async def test_markers_at_the_end_do_not_keep_it_from_catching_up(real_kafka) -> None:
    connection, topic = KafkaConnection(bootstrap_servers=real_kafka.bootstrap_servers), real_kafka.topic(partitions=1)
    producer = AIOKafkaProducer(**connection.aiokafka(), transactional_id=unique_name("shop"))
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"kept", partition=0)
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"taken back", partition=0)
    await producer.abort_transaction()
    await producer.stop()
    async with WholeReader(connection=connection, topics=[topic]) as reader:
        seen = []

        async def handle() -> None:
            async for batch in reader:
                seen.extend(batch.values)

        handling = asyncio.create_task(handle())
        await asyncio.wait_for(reader.caught_up.wait(), 20)
        handling.cancel()
        await asyncio.wait([handling])
        assert seen == [b"kept"]
        assert reader.positions == {(topic, 0): 4}
