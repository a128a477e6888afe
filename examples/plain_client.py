"""Another team's view of Alluvium: kafka-python and JSON, nothing of Alluvium imported.

    python examples/plain_client.py --bootstrap-servers localhost:9092 --user alice --item 85123A --item 22423

sends what Alice looked at to `clickstream.events` and waits for the ranking that follows on
`recommendations.rankings`. docs/asyncapi.yaml describes both records.
"""

import argparse
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

EVENTS, RANKINGS = "clickstream.events", "recommendations.rankings"


def connection(bootstrap_servers: str) -> dict[str, Any]:
    """Arguments for kafka-python; the version is named because the embedded broker cannot be asked for it."""
    return {"bootstrap_servers": bootstrap_servers, "api_version": (2, 3)}


def view_event(user_id: str, item_id: str) -> dict[str, Any]:
    """One clickstream event: the five required fields and the time."""
    return {
        "event_id": str(uuid.uuid4()),
        "user_id": user_id,
        "item_id": item_id,
        "event_type": "view",
        "event_time": datetime.now(tz=UTC).isoformat(),
    }


def send(bootstrap_servers: str, events: list[dict[str, Any]]) -> None:
    """Send events keyed by user, which keeps every person's events in order, and wait until Kafka has them."""
    producer = KafkaProducer(**connection(bootstrap_servers), acks="all")
    sent = [producer.send(EVENTS, key=e["user_id"].encode(), value=json.dumps(e).encode()) for e in events]
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()


def ends(bootstrap_servers: str) -> KafkaConsumer:
    """A consumer without a group that stands at the end of the rankings."""
    consumer = KafkaConsumer(**connection(bootstrap_servers), consumer_timeout_ms=1_000, auto_offset_reset="latest")
    deadline = time.monotonic() + 30
    while not (partitions := consumer.partitions_for_topic(RANKINGS)):
        if time.monotonic() > deadline:
            sys.exit(f"{RANKINGS} does not exist on {bootstrap_servers}")
        time.sleep(0.2)
    assigned = [TopicPartition(RANKINGS, partition) for partition in sorted(partitions)]
    consumer.assign(assigned)
    for partition in assigned:
        consumer.seek_to_end(partition)
        consumer.position(partition)  # looks the end up now, before anything is sent
    return consumer


def next_ranking(consumer: KafkaConsumer, user_id: str, *, timeout_s: float) -> dict[str, Any] | None:
    """The next ranking of one person; None if none comes in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for record in consumer:
            if record.key == user_id.encode():
                ranking: dict[str, Any] = json.loads(record.value)
                return ranking
    return None


def main() -> int:
    """Send, wait, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--user", default="alice")
    parser.add_argument("--item", action="append", required=True, help="an item_id; may be given several times")
    parser.add_argument("--timeout-s", type=float, default=30.0)
    arguments = parser.parse_args()
    consumer = ends(arguments.bootstrap_servers)
    send(arguments.bootstrap_servers, [view_event(arguments.user, item) for item in arguments.item])
    ranking = next_ranking(consumer, arguments.user, timeout_s=arguments.timeout_s)
    consumer.close()
    if ranking is None:
        print(f"no ranking for {arguments.user} within {arguments.timeout_s:.0f} s", file=sys.stderr)
        return 1
    print(json.dumps(ranking, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
