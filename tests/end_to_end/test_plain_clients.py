"""Another team's view: kafka-python and JSON, not a line of Alluvium."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from infra.deployment import Deployment
from streams.topics import all_topics
from tests.brokers import Broker
from tests.replays import toy_settings

ITEMS = [f"item-{number}" for number in range(40)]
OUTPUTS = ("recommendations.rankings", "drift.metrics", "models.releases")


@pytest.fixture
def running(kafka: Broker, tmp_path: Path, database_url: str) -> Iterator[Broker]:
    """Alluvium, running somewhere; the test knows the broker's address and nothing else."""
    kafka.create_topics(all_topics(partitions=4))
    settings = toy_settings(
        tmp_path,
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        postgres={"url": database_url},
        learning={"round_interactions": 400},
    )
    with Deployment(settings=settings) as deployment:
        deployment.start_stores()
        deployment.start_processes()
        yield kafka


def options(kafka: Broker) -> dict[str, Any]:
    """The embedded broker's oldest calls are all it knows; a real one needs no such hint."""
    hint = {"api_version": (2, 3)} if kafka.kind == "embedded" else {}
    return {"bootstrap_servers": kafka.bootstrap_servers, **hint}


def send_shop(kafka: Broker, *, events: int) -> None:
    producer = KafkaProducer(
        **options(kafka),
        acks="all",
        enable_idempotence=kafka.kind == "real",
    )

    def send(topic: str, key: str, value: dict[str, Any]) -> None:
        producer.send(topic, key=key.encode(), value=json.dumps(value).encode())

    for item in ITEMS:
        send("catalog.items", item, {"item_id": item, "title": f"Thing {item}", "price": 2.5})
    begin = datetime(2026, 1, 31, tzinfo=UTC)
    for number in range(events):
        user = f"user-{number % 30}"
        event = {
            "event_id": f"event-{number}",
            "user_id": user,
            "item_id": ITEMS[(number * 7 + number // 30) % len(ITEMS)],
            "event_type": ("view", "click", "purchase")[number % 3],
            "event_time": (begin + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        }
        send("clickstream.events", user, event)
    producer.flush()
    producer.close()


def read_until(kafka: Broker, enough: Callable[[dict[str, list[Any]]], bool]) -> dict[str, list[Any]]:
    consumer = KafkaConsumer(
        *OUTPUTS,
        **options(kafka),
        group_id="another-team",
        auto_offset_reset="earliest",
    )
    found: dict[str, list[Any]] = {topic: [] for topic in OUTPUTS}
    deadline = time.monotonic() + 120
    while not enough(found) and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                found[record.topic].append((record.key, json.loads(record.value)))
    consumer.close()
    return found


def test_events_go_in_and_rankings_drift_and_releases_come_out(running: Broker) -> None:
    send_shop(running, events=1_500)  # a figure is reported every thousand

    def enough(found: dict[str, list[Any]]) -> bool:
        return all(found.values()) and any(ranking["model_version"] > 0 for _, ranking in found[OUTPUTS[0]])

    found = read_until(running, enough)
    assert enough(found), {topic: len(records) for topic, records in found.items()}
    for key, ranking in found["recommendations.rankings"]:
        assert key.decode() == ranking["user_id"]
        places = [place["item_id"] for place in ranking["items"]]
        assert 1 <= len(places) == len(set(places)) <= 20
        assert set(places) <= set(ITEMS)
        scores = [place["score"] for place in ranking["items"]]
        assert scores == sorted(scores, reverse=True)
        assert all(place["reason"] for place in ranking["items"])
    key, release = found["models.releases"][0]
    assert key.decode() == release["model"]
    assert (release["version"], release["kind"], release["schema_version"]) == (1, "release", 1)
    assert release["verdict"]
    for key, drift in found["drift.metrics"]:
        assert key.decode() == drift["metric"]
        assert drift["level"] in {"value", "warning", "alarm"}
