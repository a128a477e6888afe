"""Topics as they are declared: made, and checked, through kafka-python's admin client (`alluvium topics apply|verify`).

The embedded broker has no admin interface: its topics are declared when it starts, and only their partitions can be
checked.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from streams.clients import KafkaConnection, describe
from streams.errors import KafkaUnavailableError, TopicMismatchError
from streams.topics import DAY_MS, DLQ_HEADROOM_BYTES, TOPICS, TopicSpec

DURABLE_REPLICAS = 3  # with as many or more, an acknowledged record is on two brokers
BOOTSTRAP_MS = 10_000
TOMBSTONE_MS = 7 * DAY_MS  # the longest that a consumer may be away and still learn what was delisted
AT_LEAST = ("max.message.bytes", "min.insync.replicas")  # larger values than declared serve as well


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One topic as it should be: partitions, and the settings that differ from the broker's defaults."""

    partitions: int
    configs: Mapping[str, str]


def declared(*, partitions: int, replication_factor: int, message_bytes: Mapping[str, int]) -> dict[str, Declared]:
    """Every topic and dead-letter topic as it should be.

    Args:
        partitions: Of `clickstream.events` and all that follow it; at least 1.
        replication_factor: Copies of each partition; at least 1.
        message_bytes: `max.message.bytes` of topics that have dead letters, which must hold the letter on top.

    >>> topics = declared(partitions=4, replication_factor=1, message_bytes={"clickstream.events": 1_000_000})
    >>> topics["clickstream.events.dlq"].configs["max.message.bytes"], topics["catalog.items"].configs["cleanup.policy"]
    ('1065536', 'compact')
    """
    durable = {"min.insync.replicas": "2"} if replication_factor >= DURABLE_REPLICAS else {}
    topics = {}
    for spec in TOPICS:
        count = spec.partitions or partitions
        topics[spec.name] = Declared(partitions=count, configs=_configs(spec) | durable)
        if spec.dead_letters:
            letters = {"cleanup.policy": "delete", "retention.ms": str(29 * DAY_MS)}
            if spec.name in message_bytes:
                letters["max.message.bytes"] = str(message_bytes[spec.name] + DLQ_HEADROOM_BYTES)
            topics[spec.dlq] = Declared(partitions=count, configs=letters | durable)
    return topics


def apply(connection: KafkaConnection, *, partitions: int, replication_factor: int) -> list[str]:
    """Create the topics that are missing and set the settings of all; the names of those created.

    Raises:
        TopicMismatchError: If an existing topic has another number of partitions, which cannot be mended in place:
            users would move to other partitions.
        KafkaUnavailableError: If the brokers do not answer, or refuse.
    """
    created = []
    with _admin(connection) as admin:
        # sources first: how large their records may be decides how large dead letters may be
        for dead_letters in (False, True):
            present = set(admin.list_topics())
            limits = _message_bytes(admin, [spec.name for spec in TOPICS if spec.name in present])
            wanted = declared(partitions=partitions, replication_factor=replication_factor, message_bytes=limits)
            sources = {spec.name for spec in TOPICS}
            for name, topic in wanted.items():
                if name in present or (name not in sources) != dead_letters:
                    continue
                options = {
                    "num_partitions": topic.partitions,
                    "replication_factor": replication_factor,
                    "configs": dict(topic.configs),
                }
                try:
                    admin.create_topics({name: options}, wait_for_metadata=True)
                except TopicAlreadyExistsError:
                    continue  # somebody was faster; checked below like every other
                created.append(name)
        problems = _problems(admin, wanted, settings=False)
        if problems:
            raise TopicMismatchError(problems=problems)
        for name, configs in _differing(admin, wanted).items():
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
    return created


def verify(connection: KafkaConnection, *, partitions: int, replication_factor: int) -> list[str]:
    """What is wrong with the topics of a real cluster, one sentence each; empty if nothing is.

    Raises:
        KafkaUnavailableError: If the brokers do not answer, or refuse.
    """
    with _admin(connection) as admin:
        limits = _message_bytes(admin, sorted(set(admin.list_topics()) & {spec.name for spec in TOPICS}))
        wanted = declared(partitions=partitions, replication_factor=replication_factor, message_bytes=limits)
        return _problems(admin, wanted, settings=True)


async def verify_partitions(connection: KafkaConnection, wanted: Mapping[str, int]) -> list[str]:
    """What is wrong with topics as far as any broker tells, the embedded one included.

    Args:
        connection: Where to ask.
        wanted: Partitions by topic.

    Raises:
        KafkaUnavailableError: If no broker answers.
    """
    _, counts = await describe(connection)
    return _wrong_partitions(wanted, counts)


def _configs(spec: TopicSpec) -> dict[str, str]:
    configs = {"cleanup.policy": "compact" if spec.compacted else "delete"}
    if spec.compacted:
        configs["delete.retention.ms"] = str(TOMBSTONE_MS)
    if spec.retention_ms is not None:
        configs["retention.ms"] = str(spec.retention_ms)
    return configs


def _wrong_partitions(wanted: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    problems = []
    for name, partitions in wanted.items():
        if name not in counts:
            problems.append(f"{name} does not exist")
        elif counts[name] != partitions:
            problems.append(f"{name} has {counts[name]} partitions, expected {partitions}")
    return problems


def _problems(admin: Any, wanted: Mapping[str, Declared], *, settings: bool) -> list[str]:
    counts = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
    problems = _wrong_partitions({name: topic.partitions for name, topic in wanted.items()}, counts)
    if settings:
        existing = {name: topic for name, topic in wanted.items() if name in counts}
        actual = _actual(admin, list(existing))
        for name, configs in _differing(admin, existing).items():
            problems += [
                f"{name} has {key}={actual[name].get(key)}, expected {value}" for key, value in configs.items()
            ]
    return problems


def _differing(admin: Any, wanted: Mapping[str, Declared]) -> dict[str, dict[str, str]]:
    """Settings to change, by topic; a higher limit than declared is left alone."""
    actual = _actual(admin, list(wanted))
    differing: dict[str, dict[str, str]] = {}
    for name, topic in wanted.items():
        for key, value in topic.configs.items():
            found = actual[name].get(key)
            enough = key in AT_LEAST and found is not None and int(found) >= int(value)
            if found != value and not enough:
                differing.setdefault(name, {})[key] = value
    return differing


def _actual(admin: Any, names: list[str]) -> dict[str, dict[str, str | None]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described = admin.describe_configs(resources, config_filter=ConfigFilterType.ALL)
    by_name: dict[str, Any] = next(iter(described.values()))
    return {name: {key: entry["value"] for key, entry in by_name[name].items()} for name in names}


def _message_bytes(admin: Any, names: list[str]) -> dict[str, int]:
    return {name: int(configs["max.message.bytes"] or 0) for name, configs in _actual(admin, names).items()}


@contextmanager
def _admin(connection: KafkaConnection) -> Iterator[Any]:
    admin = None
    try:
        admin = KafkaAdminClient(**connection.kafka_python(), bootstrap_timeout_ms=BOOTSTRAP_MS)
        yield admin
    except (KafkaError, OSError) as exc:
        raise KafkaUnavailableError(
            bootstrap_servers=connection.bootstrap_servers,
            doing="managing topics",
            cause=str(exc) or type(exc).__name__,
        ) from exc
    finally:
        if admin is not None:
            admin.close()
