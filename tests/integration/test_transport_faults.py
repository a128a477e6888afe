"""Delivery when things break: killed workers, a killed broker, transactions, retention."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.publisher import Publisher
from tests.brokers import Broker, RealBroker, unique_name
from tests.integration.transport_harness import REAL, committed, produce, until, working

ROOT = Path(__file__).parents[2]


@pytest.fixture
def real(real_kafka: RealBroker) -> KafkaConnection:
    REAL.add(real_kafka.bootstrap_servers)
    return KafkaConnection(bootstrap_servers=real_kafka.bootstrap_servers)


WORKER = """
    import asyncio, sys
    from streams.clients import KafkaConnection
    from tests.integration.transport_harness import REAL, working

    servers, group, topic, journal, kind = sys.argv[1:]
    if kind == "real":
        REAL.add(servers)

    async def work(batch):
        with open(journal, "a") as out:
            out.write(f"began {batch.first_offset}\\n")
        await asyncio.sleep(0.5)
        with open(journal, "a") as out:
            out.write(f"ended {batch.next_offset}\\n")

    async def main():
        connection = KafkaConnection(bootstrap_servers=servers)
        async with working(group, topic, connection, work, max_batch_events=100):
            await asyncio.sleep(3600)

    asyncio.run(main())
"""


@contextlib.contextmanager
def worker_process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, on one partition, half a second a batch."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), *arguments], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_killed_worker_has_committed_nothing_that_it_had_not_finished(
    kafka: Broker, connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    topic, journal = kafka.topic(partitions=1), tmp_path / "journal"
    journal.touch()
    await produce(connection, topic, 1000, partitions=1)
    with worker_process(connection.bootstrap_servers, group, topic, str(journal), kafka.kind) as process:
        await until(lambda: journal.read_text().count("began") == 4)
        process.send_signal(signal.SIGKILL)
    ended = [int(line.split()[1]) for line in journal.read_text().splitlines() if line.startswith("ended")]
    offset = (await committed(connection, group, topic, 1))[0] or 0
    assert ended == [100, 200, 300]
    assert offset in {200, 300}  # the last one may not yet have been committed; the fourth must not be
    async with working(group, topic, connection) as worker:
        await until(lambda: b"999" in worker.values())
        assert worker.values() == [b"%d" % i for i in range(offset, 1000)]


async def test_a_stopped_worker_that_lost_its_partition_cannot_commit_over_its_successor(
    kafka: Broker, connection: KafkaConnection, group: str, tmp_path: Path
) -> None:
    topic, journal = kafka.topic(partitions=1), tmp_path / "journal"
    journal.touch()
    await produce(connection, topic, 1000, partitions=1)
    with worker_process(connection.bootstrap_servers, group, topic, str(journal), kafka.kind) as process:
        await until(lambda: journal.read_text().count("began") == 2)
        process.send_signal(signal.SIGSTOP)
        async with working(group, topic, connection) as successor:
            await until(lambda: b"999" in successor.values(), within_s=60)

            async def all_committed() -> bool:
                return await committed(connection, group, topic, 1) == {0: 1000}

            await until(all_committed)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)
            assert await all_committed()
        assert successor.values()[0] in {b"0", b"100"}


async def test_gaps_that_transactions_leave_are_harmless(
    real: KafkaConnection, real_kafka: RealBroker, group: str
) -> None:
    topic = real_kafka.topic(partitions=1)
    producer = AIOKafkaProducer(**real.aiokafka(), transactional_id=unique_name("shop"))
    await producer.start()
    wanted = []
    try:
        for number in range(12):
            await producer.begin_transaction()
            for i in range(7):
                await producer.send_and_wait(topic, b"%d" % (100 * number + i), partition=0)
            if number % 3 == 1:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                wanted += [b"%d" % (100 * number + i) for i in range(7)]
    finally:
        await producer.stop()
    end = 12 * 8  # a marker after every transaction
    async with working(group, topic, real, max_batch_events=10) as worker:
        await until(lambda: len(worker.values()) == len(wanted))
        assert worker.values() == wanted
        assert all(later.first_offset >= earlier.next_offset for earlier, later in itertools.pairwise(worker.batches))
        assert sum(batch.truncated for batch in worker.batches) == 0
        await until(lambda: worker.app.consumer.lags() == {(topic, 0): 0})

        async def all_committed() -> bool:
            offset = (await committed(real, group, topic, 1))[0] or 0
            return end - 9 <= offset <= end  # behind the last record, or the markers after it

        await until(all_committed)
    await produce(real, topic, 5, partitions=1, first=5000)
    async with working(group, topic, real) as worker:
        await until(lambda: len(worker.values()) == 5)
        assert worker.values() == [b"%d" % i for i in range(5000, 5005)]


async def test_what_retention_took_is_counted(real: KafkaConnection, real_kafka: RealBroker, group: str) -> None:
    topic = real_kafka.topic(partitions=1)
    await produce(real, topic, 100, partitions=1)
    admin = AIOKafkaAdminClient(**real.aiokafka())
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=60)})
    finally:
        await admin.close()
    async with working(group, topic, real, start_offset=lambda _topic, _partition: 20) as worker:
        await until(lambda: len(worker.values()) == 40)
        assert [batch.truncated for batch in worker.batches] == [40]
        assert worker.batches[0].first_offset == 60


async def test_what_the_embedded_broker_forgot_is_counted(embedded_kafka: Broker, group: str) -> None:
    connection = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
    topic, seen = embedded_kafka.topic(partitions=1), 0
    await produce(connection, topic, 10, partitions=1)
    blob = os.urandom(100_000)  # incompressible

    async with Publisher(connection=connection) as publisher:
        await publisher.send_runs(topic, {0: [(b"k", blob)] * 100})  # twice what it keeps
    async with working(group, topic, connection, start_offset=lambda _topic, _partition: 0) as worker:
        await until(lambda: bool(worker.batches) and worker.batches[-1].next_offset == 110)
        seen = sum(map(len, worker.batches))
        assert seen < 100
        assert sum(batch.truncated for batch in worker.batches) == 110 - seen


async def test_a_broker_that_dies_and_comes_back_costs_nothing(
    real: KafkaConnection, real_kafka: RealBroker, group: str
) -> None:
    if real_kafka.cluster is None:
        pytest.skip("this broker is somebody else's; it must not be killed")
    topic = real_kafka.topic(partitions=2)

    async def work(batch: RecordBatch) -> None:
        await asyncio.sleep(0.02)

    async with working(group, topic, real, work, max_batch_events=50) as worker:
        await produce(real, topic, 3000, partitions=2)
        await until(lambda: len(worker.values()) >= 500)
        await asyncio.to_thread(real_kafka.cluster.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(real_kafka.cluster.restart)
        await until(lambda: len(set(worker.values())) == 3000, within_s=90)
        assert not worker.app.should_stop
        await produce(real, topic, 10, partitions=2, first=3000)
        await until(lambda: len(set(worker.values())) == 3010)
