"""The embedded parts come up, do what they promise, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer

from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.brokers import Broker
from tests.waiting import is_running, wait_until

OLD_API = (2, 3)  # the mock broker's answer to newer version requests cannot be decoded by kafka-python

PARENT = """
import sys, time
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
kafka, postgres = EmbeddedKafka().start(), EmbeddedPostgres().start()
print(kafka.pid, postgres.pid, postgres.server_pid, flush=True)
time.sleep(60)
"""


def api_version(broker: Broker) -> tuple[int, int] | None:
    return OLD_API if broker.kind == "embedded" else None


def test_topics_have_the_partitions_that_were_asked_for(kafka: Broker) -> None:
    first, second = kafka.topic("three", 3), kafka.topic("seven", 7)
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, api_version=api_version(kafka))
    assert consumer.partitions_for_topic(first) == {0, 1, 2}
    assert consumer.partitions_for_topic(second) == set(range(7))
    consumer.close()


def test_what_is_produced_is_consumed(kafka: Broker) -> None:
    topic = kafka.topic("events", 2)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, api_version=api_version(kafka))
    for number in range(20):
        producer.send(topic, b"%d" % number)
    producer.close()
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        api_version=api_version(kafka),
        auto_offset_reset="earliest",
        consumer_timeout_ms=3000,
    )
    values = sorted(int(record.value) for _, record in zip(range(20), consumer, strict=False))
    consumer.close()
    assert values == list(range(20))


def test_a_topic_without_partitions_is_refused() -> None:
    with EmbeddedKafka() as kafka, pytest.raises(ValueError, match="topic 'empty': 0 partitions; expected at least 1"):
        kafka.create_topics({"empty": 0})


def test_embedded_kafka_says_what_it_cannot_do(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, EmbeddedKafka(log=log):
        pass
    assert "keeps 5 MiB per partition" in (tmp_path / "log").read_text()


def test_embedded_kafka_runs_alone_and_writes_its_address(tmp_path: Path) -> None:
    address = tmp_path / "address"
    argv = [sys.executable, "-m", "infra.embedded.kafka", "--topics", '{"a": 1}', "--port-file", str(address)]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        wait_until(address.exists)
        assert address.read_text().startswith("127.0.0.1:")
        assert child.poll() is None
        child.terminate()


def test_postgres_has_pgvector_and_takes_many_connections(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE EXTENSION vector")
        distance = connection.execute("SELECT '[1,2,2]'::vector <-> '[1,0,2]'::vector").fetchone()
        limit = connection.execute("SHOW max_connections").fetchone()
    assert distance == (2.0,)
    assert limit == ("100",)


def test_postgres_asks_for_its_password(database_url: str) -> None:
    head, _, tail = database_url.partition("@")
    wrong = head.rsplit(":", 1)[0] + ":wrong@" + tail
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_stopping_postgres_removes_its_data() -> None:
    server = EmbeddedPostgres().start()
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    assert Path(row[0]).exists()
    server.stop()
    server.stop()
    assert not Path(row[0]).parent.exists()
    assert not psutil.pid_exists(server.server_pid)


def test_embedded_parts_die_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(is_running(pid) for pid in pids)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_the_server_dies_with_a_keeper_that_is_killed() -> None:
    server = EmbeddedPostgres().start()
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(server.server_pid))
    server.stop()
    with EmbeddedPostgres():  # sweeps away what the killed keeper left
        pass
