import json
import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from feature_store.report import ledger_report
from streams.publisher import Publisher
from streams.topics import (
    CATALOG_ITEMS,
    CLICKSTREAM_EVENTS,
    INTERACTIONS_BY_ITEM,
    INTERACTIONS_VALIDATED,
    RANKING_REQUESTS,
    RECOMMENDATIONS_RANKINGS,
    USERS_ERASURES,
)
from tests.brokers import Broker
from tests.integration.worker_harness import consumed, event, prepare, produce, running_worker, until

pytestmark = pytest.mark.timeout(120)


def counts(database_url: str, topic: str = CLICKSTREAM_EVENTS) -> dict[str, int]:
    return dict(ledger_report(database_url)[topic]["counts"])


async def test_events_become_features_interactions_and_rankings(kafka: Broker, database_url: str) -> None:
    connection = prepare(kafka, database_url)
    items = [{"item_id": i, "title": i} for i in ("mug", "cup", "pot")]
    async with Publisher(connection=connection) as publisher:
        await publisher.send_keyed(CATALOG_ITEMS, [(i["item_id"].encode(), msgspec.json.encode(i)) for i in items])
    async with running_worker(kafka, database_url) as (worker, _):
        await produce(
            connection, [event(1), event(2, item_id="cup"), event(3, user_id="bob"), event(4, event_type="cart")]
        )
        await until(lambda: worker.rankings.published >= 2, "both people are ranked")
        await until(lambda: worker.items.processed == 4, "items are counted")
    async with running_worker(kafka, database_url) as (worker, _):
        states = worker.users.features.read(["ada", "bob"])
        assert [item for item, _, _ in states["ada"].history()] == ["mug", "cup", "mug"]
        assert (states["ada"].count_of("view"), states["ada"].count_of("cart")) == (2, 1)
        assert states["bob"].count_of("view") == 1
        assert worker.items.features.read(["mug"])["mug"].count_of("view") == 2
    assert counts(database_url)["received"] == counts(database_url)["applied"] == 4
    assert counts(database_url, INTERACTIONS_BY_ITEM)["applied"] == 4
    offsets = [json.loads(r.value)["offset"] for r in consumed(kafka, INTERACTIONS_VALIDATED)]
    assert len(offsets) == 4
    rankings = [json.loads(r.value) for r in consumed(kafka, RECOMMENDATIONS_RANKINGS)]
    assert {r["user_id"] for r in rankings} == {"ada", "bob"}
    assert {item["item_id"] for item in rankings[-1]["items"]} == {"mug", "cup", "pot"}
    assert all(r["model_version"] == 0 and r["appended_watermark_ms"] for r in rankings)


async def test_what_cannot_be_used_is_counted_and_lies_in_the_dead_letters(kafka: Broker, database_url: str) -> None:
    connection = prepare(kafka, database_url)
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    records = [
        (b"ada", msgspec.json.encode(event(5_000))),
        (b"ada", msgspec.json.encode(event(5_000))),
        (b"ada", b"{"),
        (b"eve", msgspec.json.encode(event(3))),
        (b"ada", msgspec.json.encode(event(4, event_time=ahead))),
        (b"ada", msgspec.json.encode(event(6, event_time="2026-01-31T10:59:59Z"))),
    ]
    async with running_worker(kafka, database_url) as (worker, _):
        async with Publisher(connection=connection) as publisher:
            await publisher.send_keyed(CLICKSTREAM_EVENTS, records)
        await until(lambda: worker.users.processed == len(records), "all are processed")
    found = counts(database_url)
    assert {k: found[k] for k in ("received", "applied", "rejected", "duplicate", "late", "erased")} == {
        "received": 6, "applied": 1, "rejected": 3, "duplicate": 1, "late": 1, "erased": 0,
    }  # fmt: skip
    letters = {
        dict(r.headers)["__connect.errors.exception.message"] for r in consumed(kafka, CLICKSTREAM_EVENTS + ".dlq")
    }
    assert len(letters) == 3
    assert b"key is not the user_id" in letters
    assert any(b"ahead of the record" in letter for letter in letters)
    late = [json.loads(r.value) for r in consumed(kafka, INTERACTIONS_VALIDATED)]
    assert [i.get("late", False) for i in late] == [False, True]


async def test_an_erased_person_is_gone_and_old_events_do_not_bring_them_back(kafka: Broker, database_url: str) -> None:
    connection = prepare(kafka, database_url)
    async with running_worker(kafka, database_url) as (worker, _):
        await produce(connection, [event(1), event(2), event(3, user_id="bob")])
        await until(lambda: worker.users.processed == 3, "the first events are processed")
        erasure = {"user_id": "ada", "requested_at": "2026-01-31T12:00:05Z"}
        await produce(connection, [erasure], USERS_ERASURES)
        await until(lambda: worker.users.erased == 1, "ada is gone")
        await produce(connection, [event(4), event(6_000, item_id="pot")])
        await until(lambda: worker.users.processed == 5, "the last events are processed")
        states = worker.users.features.read(["ada", "bob"])
    assert [item for item, _, _ in states["ada"].history()] == ["pot"]
    assert states["bob"].events == 1
    assert counts(database_url)["erased"] == 1


async def test_requests_are_answered_also_for_strangers_and_without_a_catalogue(
    kafka: Broker, database_url: str
) -> None:
    connection = prepare(kafka, database_url)
    async with running_worker(kafka, database_url) as (worker, _):
        await produce(connection, [{"request_id": "r1", "user_id": "ada"}], RANKING_REQUESTS)
        await until(lambda: worker.rankings.published == 1, "the request is answered")
        async with Publisher(connection=connection) as publisher:
            await publisher.send_keyed(RANKING_REQUESTS, [(b"ada", b'{"request_id": 7}')])
        await produce(connection, [{"request_id": "r2", "user_id": "ada", "k": 1}], RANKING_REQUESTS)
        await until(lambda: worker.rankings.published == 2, "the next request is answered")
    answers = [json.loads(r.value) for r in consumed(kafka, RECOMMENDATIONS_RANKINGS)]
    assert [(a["request_id"], a["items"]) for a in answers] == [("r1", []), ("r2", [])]
    (letter,) = consumed(kafka, RANKING_REQUESTS + ".dlq")
    assert b"request_id" in dict(letter.headers)["__connect.errors.exception.message"]


async def test_ten_thousand_mutated_payloads_are_applied_or_explained(kafka: Broker, database_url: str) -> None:
    """Dirt: truncated, wrong types, NaN, huge, wrong encoding, unknown schema version, null key, future, very large."""
    connection = prepare(kafka, database_url)
    rng = random.Random(7)
    records = [mutated(rng, number) for number in range(10_000)]
    async with running_worker(kafka, database_url) as (worker, _):
        async with Publisher(connection=connection) as publisher:
            partition_of = await publisher.partitioner(CLICKSTREAM_EVENTS)
            await publisher.send([(CLICKSTREAM_EVENTS, partition_of(key or b""), key, value) for key, value in records])
        await until(lambda: worker.users.processed == len(records), "all are processed", timeout_s=60)
    found = counts(database_url)
    letters = consumed(kafka, CLICKSTREAM_EVENTS + ".dlq")
    assert found["received"] == len(records)
    assert found["applied"] + found["rejected"] + found["duplicate"] + found["late"] + found["erased"] == len(records)
    assert found["rejected"] == len(letters) > 5_000
    assert found["applied"] > 500
    by_place = {}
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["__connect.errors.exception.message"], "a letter says what was wrong"
        by_place[headers["__connect.errors.partition"], headers["__connect.errors.offset"]] = letter.value
    assert len(by_place) == len(letters)
    sent = {value for _, value in records}
    assert set(by_place.values()) <= sent, "the original bytes are kept"


def mutated(rng: random.Random, number: int) -> tuple[bytes | None, bytes]:
    good = msgspec.json.encode(event(number, user_id=f"u{number % 50}", item_id=f"i{number % 30}", price=1.5))
    key: bytes | None = f"u{number % 50}".encode()
    kind = rng.randrange(12)
    match kind:
        case 0:
            return key, good[: rng.randrange(len(good))]
        case 1:
            field = rng.choice(["event_id", "user_id", "item_id", "event_type", "event_time", "price"])
            return key, msgspec.json.encode(
                json.loads(good) | {field: rng.choice([7, [], {}, True, "", "\x00", "x" * 5_000])}
            )
        case 2:
            return key, good.replace(b"1.5", rng.choice([b"NaN", b"Infinity", b"-1", b"1e999", b'"1"']))
        case 3:
            return key, good.replace(b"i", b"\xff\xfe", 1)
        case 4:
            return key, good.decode().encode(rng.choice(["utf-16", "utf-32"]))
        case 5:
            return key, good.replace(b'"schema_version":1', b'"schema_version":2')
        case 6:
            return None, good
        case 7:
            return key, good.replace(b"2026", b"2999")
        case 8:
            place = rng.randrange(len(good))
            return key, good[:place] + bytes([rng.randrange(256)]) + good[place + 1 :]
        case 9:
            return key, b"[" * rng.choice([10, 5_000])
        case 10 if number % 100 == 0:
            return key, b'{"context":"' + b"x" * 1_000_000 + b'"}'
        case _:
            return key, good
