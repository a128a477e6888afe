import pytest

from streams import admin
from streams.clients import KafkaConnection
from streams.errors import KafkaUnavailableError, TopicMismatchError
from streams.topics import TOPICS, TopicSpec, all_topics
from tests.brokers import Broker, RealBroker, unique_name
from tests.waiting import wait_until


@pytest.fixture
def own_topics(monkeypatch) -> tuple[TopicSpec, ...]:
    """The declaration with names that no other test uses: a real broker is shared."""
    specs = (
        TopicSpec(name=unique_name("events"), retention_ms=86_400_000, dead_letters=True),
        TopicSpec(name=unique_name("items"), compacted=True),
        TopicSpec(name=unique_name("metrics"), partitions=1),
    )
    monkeypatch.setattr(admin, "TOPICS", specs)
    return specs


def connect(broker: Broker) -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=broker.bootstrap_servers)


def test_topics_are_made_as_declared_and_a_second_time_changes_nothing(real_kafka: RealBroker, own_topics) -> None:
    connection = connect(real_kafka)
    events, items, metrics = own_topics
    names = [events.name, items.name, metrics.name, events.dlq]
    assert len(admin.verify(connection, partitions=3, replication_factor=1)) == 4
    assert admin.apply(connection, partitions=3, replication_factor=1) == names
    assert admin.verify(connection, partitions=3, replication_factor=1) == []
    assert admin.apply(connection, partitions=3, replication_factor=1) == []


def test_settings_that_were_changed_are_found_and_mended(real_kafka: RealBroker, own_topics) -> None:
    connection, (events, items, _) = connect(real_kafka), own_topics
    admin.apply(connection, partitions=3, replication_factor=1)
    with admin._admin(connection) as client:
        for name, configs in [
            (items.name, {"cleanup.policy": "delete"}),
            (events.dlq, {"max.message.bytes": "1000000"}),
        ]:
            client.alter_configs([admin.ConfigResource(admin.ConfigResourceType.TOPIC, name, configs)])
    assert sorted(admin.verify(connection, partitions=3, replication_factor=1)) == sorted(
        [
            f"{items.name} has cleanup.policy=delete, expected compact",
            f"{events.dlq} has max.message.bytes=1000000, expected 1114124",
        ]
    )
    admin.apply(connection, partitions=3, replication_factor=1)
    assert admin.verify(connection, partitions=3, replication_factor=1) == []


def test_dead_letters_may_be_larger_than_what_they_carry(real_kafka: RealBroker, own_topics) -> None:
    connection, (events, *_) = connect(real_kafka), own_topics
    admin.apply(connection, partitions=3, replication_factor=1)
    with admin._admin(connection) as client:
        client.alter_configs(
            [admin.ConfigResource(admin.ConfigResourceType.TOPIC, events.name, {"max.message.bytes": "5000000"})]
        )
    problem = f"{events.dlq} has max.message.bytes=1114124, expected {5_000_000 + 64 * 1024}"
    # a broker hears of an altered setting a moment after the controller has taken it
    wait_until(lambda: admin.verify(connection, partitions=3, replication_factor=1) == [problem])


def test_another_number_of_partitions_is_refused(real_kafka: RealBroker, own_topics) -> None:
    connection, (events, *_) = connect(real_kafka), own_topics
    admin.apply(connection, partitions=3, replication_factor=1)
    with pytest.raises(TopicMismatchError, match=f"{events.name} has 3 partitions, expected 6"):
        admin.apply(connection, partitions=6, replication_factor=1)


async def test_partitions_can_be_checked_on_any_broker(kafka: Broker) -> None:
    right, wrong = kafka.topic(partitions=2), kafka.topic(partitions=3)
    problems = await admin.verify_partitions(connect(kafka), {right: 2, wrong: 2, "nowhere": 1})
    assert problems == [f"{wrong} has 3 partitions, expected 2", "nowhere does not exist"]


def test_every_topic_of_the_design_is_declared() -> None:
    wanted = admin.declared(partitions=4, replication_factor=3, message_bytes={})
    assert {name: topic.partitions for name, topic in wanted.items()} == all_topics(partitions=4)
    compacted = {name for name, topic in wanted.items() if topic.configs["cleanup.policy"] == "compact"}
    assert compacted == {spec.name for spec in TOPICS if spec.compacted}
    assert {topic.configs["min.insync.replicas"] for topic in wanted.values()} == {"2"}


def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:9 is unavailable while managing topics"):
        admin.verify(KafkaConnection(bootstrap_servers="127.0.0.1:9"), partitions=1, replication_factor=1)
