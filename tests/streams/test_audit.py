"""The independent witness: it counts every record once, and says so when some were gone before it came."""

import time
from collections.abc import Iterator

import msgspec
import pytest
from kafka import KafkaProducer

from infra.embedded.kafka import EmbeddedKafka
from streams.audit import AUDITED, MOCK_API_VERSION, Audit, Counted, end_offsets
from streams.events import Drift, Interaction, Metric, Ranking, Release


def options(broker: str) -> dict[str, object]:
    return {"bootstrap_servers": broker, "api_version": MOCK_API_VERSION}


@pytest.fixture
def broker() -> Iterator[str]:
    with EmbeddedKafka(topics=dict.fromkeys(AUDITED, 2)) as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def producer(broker: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=broker, api_version=MOCK_API_VERSION, acks="all", enable_idempotence=False
    )
    yield producer
    producer.close()


def send(producer: KafkaProducer, topic: str, *records: object, partition: int = 0, **more: object) -> None:
    for record in records:
        value = record if isinstance(record, bytes) else msgspec.json.encode(record)
        producer.send(topic, value=value, partition=partition, **more).get(10)


def interaction(offset: int, *, partition: int = 0, late: bool = False) -> Interaction:
    return Interaction(
        event_id=f"e{partition}-{offset}",
        user_id="u",
        item_id="i",
        event_type="view",
        event_time_ms=0,
        appended_at_ms=0,
        partition=partition,
        offset=offset,
        late=late,
    )


def test_events_are_counted_by_partition_and_repeats_of_interactions_only_once(
    broker: str, producer: KafkaProducer
) -> None:
    with Audit(options=options(broker)) as audit:
        send(producer, "clickstream.events", b"{}", b"not even JSON", b"{}")
        send(producer, "clickstream.events", b"{}", partition=1)
        first, second, third = interaction(0), interaction(2, late=True), interaction(1, partition=1)
        send(producer, "interactions.validated", first, second, first, second, third, interaction(3))
        found = audit.stop()
    assert found.partitions["clickstream.events", 0] == Counted(first_offset=0, next_offset=3, records=3)
    assert found.records("clickstream.events") == 4
    assert found.missing("clickstream.events") == 0
    assert (found.interactions, found.repeated_interactions, found.late_interactions) == (4, 2, 1)


def test_reading_starts_where_it_is_told(broker: str, producer: KafkaProducer) -> None:
    send(producer, "clickstream.events", b"1", b"2", b"3")
    assert end_offsets(options(broker), ["clickstream.events"]) == {
        ("clickstream.events", 0): 3,
        ("clickstream.events", 1): 0,
    }
    with Audit(options=options(broker), start={("clickstream.events", 0): 2}) as audit:
        found = audit.stop()
    assert found.partitions["clickstream.events", 0] == Counted(first_offset=2, next_offset=3, records=1)


def test_records_that_retention_took_are_reported(broker: str, producer: KafkaProducer) -> None:
    send(producer, "clickstream.events", *[bytes(700_000)] * 10)  # the embedded broker keeps 5 MiB
    with Audit(options=options(broker), start={("clickstream.events", 0): 0}) as audit:
        found = audit.stop().partitions["clickstream.events", 0]
    assert found.next_offset == 10
    assert 0 < found.missing == 10 - found.records


def test_rankings_tell_freshness_and_the_first_use_of_each_version(broker: str, producer: KafkaProducer) -> None:
    def ranking(version: int, appended_ms: int, request_id: str | None = None) -> Ranking:
        return Ranking(
            ranking_id="r",
            user_id="u",
            request_id=request_id,
            model_version=version,
            items=(),
            ranked_at_ms=0,
            appended_watermark_ms=appended_ms,
        )

    now_ms = int(time.time() * 1000)
    for version, age_ms, request in ((0, 40, None), (1, 60, None), (1, 9_000, "asked"), (1, 80, None)):
        record = ranking(version, now_ms - age_ms, request)
        send(producer, "recommendations.rankings", record, timestamp_ms=now_ms + version)
    with Audit(options=options(broker)) as audit:
        found = audit.stop()
    assert list(found.ranking_ages_ms) == [40, 61, 81]  # what was asked for may concern old events
    assert found.first_served_ms == {0: now_ms, 1: now_ms + 1}


def test_quality_drift_releases_and_dead_letters_are_kept(broker: str, producer: KafkaProducer) -> None:
    def metric(count: int, value: float) -> Metric:
        return Metric(
            metric_id=f"m{count}",
            metric="mrr",
            expert="mixture",
            value=0.0,
            count=1,
            total_value=value,
            total_count=count,
            model_version=0,
            event_time_ms=0,
            interactions=count,
        )

    alarm = Drift(drift_id="d1", metric="mrr:mixture", level="alarm", value=0.2, event_time_ms=0, interactions=9)
    calm = Drift(drift_id="d2", metric="mrr:mixture", level="value", value=0.2, event_time_ms=0, interactions=9)
    release = Release(
        model="shared",
        version=1,
        sequence=1,
        kind="release",
        uri="file:///r",
        sha256="0",
        parent=None,
        offsets={},
        metrics={},
        verdict={"passed": True},
        triggered_at_ms=5,
        released_at_ms=9,
    )
    send(producer, "quality.metrics", metric(10, 0.1), metric(20, 0.3), metric(10, 0.1))
    send(producer, "drift.metrics", alarm, calm, alarm)
    send(producer, "models.releases", release, release)
    for offset, value in ((b"3", b'{"event_id":"bad-1"}'), (b"4", b"{"), (b"4", b"{")):
        place = [("__connect.errors.partition", b"0"), ("__connect.errors.offset", offset)]
        reason = [("__connect.errors.exception.message", b"user_id is missing")]
        send(producer, "clickstream.events.dlq", value, headers=place + reason)
    with Audit(options=options(broker)) as audit:
        found = audit.stop()
    assert found.totals == {("mixture", "mrr"): (20, 0.3)}
    assert list(found.drifts) == ["d1"]
    assert [(release["version"], release["triggered_at_ms"]) for release in found.releases.values()] == [(1, 5)]
    assert found.dead_letters == {"user_id is missing": 2}
    assert found.dead_sources == {(0, 3), (0, 4)}
    assert found.dead_event_ids == {"bad-1"}
