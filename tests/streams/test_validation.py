import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from streams.batches import RecordBatch
from streams.dead_letters import headers_of, letters, shortened
from streams.events import Interaction, to_ms
from streams.ingest import Outcome, beyond
from streams.publisher import Outgoing
from streams.validation import EPOCH, explain, validate

NOW_MS = 1_769_860_800_000  # 2026-01-31T12:00:00Z
GOOD = {
    "event_id": "e1",
    "user_id": "ada",
    "item_id": "mug",
    "event_type": "click",
    "event_time": "2026-01-31T12:00:00.123Z",
    "context": {"page": 3},
}


def batch(*values: bytes | None, key: bytes | None = b"ada", timestamp_ms: int = NOW_MS) -> RecordBatch:
    count = len(values)
    return RecordBatch(
        topic="clickstream.events",
        partition=1,
        offsets=list(range(10, 10 + count)),
        keys=[key] * count,
        values=list(values),
        timestamps_ms=[timestamp_ms] * count,
    )


def reason_for(value: bytes | None, **more: object) -> tuple[str, str]:
    accepted, (rejected,) = validate(batch(value, **more), allowed_skew_ms=1_000)  # type: ignore[arg-type]
    assert not accepted
    return rejected.stage, rejected.reason


def test_a_valid_event_becomes_an_interaction_that_knows_where_it_came_from() -> None:
    (interaction,), rejected = validate(batch(msgspec.json.encode(GOOD)), allowed_skew_ms=1_000)
    assert not rejected
    assert (interaction.partition, interaction.offset, interaction.appended_at_ms) == (1, 10, NOW_MS)
    assert interaction.event_time_ms == NOW_MS + 123
    assert msgspec.json.decode(msgspec.json.encode(interaction), type=Interaction) == interaction


def test_an_event_behind_a_schema_registry_prefix_is_read() -> None:
    accepted, _ = validate(batch(b"\x00\x00\x00\x00\x07" + msgspec.json.encode(GOOD)), allowed_skew_ms=1_000)
    assert len(accepted) == 1


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        ({"user_id": 7}, "validate", "Expected `str`, got `int` - at `$.user_id`"),
        ({"item_id": ""}, "validate", "$.item_id"),
        ({"item_id": "a\x00b"}, "validate", "$.item_id"),
        ({"event_type": "drop table"}, "validate", "$.event_type"),
        ({"schema_version": 2}, "validate", "$.schema_version"),
        ({"event_time": "yesterday"}, "validate", "$.event_time"),
        ({"event_time": "2026-01-31T12:00:00"}, "validate", "timezone"),
        ({"event_time": "1969-12-31T23:59:59Z"}, "time", "before 1970"),
        ({"event_time": "2026-01-31T12:00:01.001Z"}, "time", "1.0 s ahead"),
        ({"price": -1}, "validate", "$.price"),
        ({"user_id": "bob"}, "validate", "key is not the user_id"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], stage: str, words: str) -> None:
    found_stage, reason = reason_for(msgspec.json.encode(GOOD | change))
    assert found_stage == stage
    assert words in reason


def test_a_missing_field_is_named() -> None:
    assert "event_id" in reason_for(b'{"user_id":"ada"}')[1]


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff\xfe", b'{"event_id": NaN}'])
def test_bytes_that_are_no_json_are_rejected_and_never_raised(value: bytes | None) -> None:
    stage, reason = reason_for(value)
    assert (stage, bool(reason)) == ("decode", True)


@pytest.mark.parametrize("value", [b"[[[[", b"[" * 100_000, b"7"])
def test_json_that_is_no_object_is_rejected_however_deep_it_goes(value: bytes) -> None:
    assert reason_for(value)[1].startswith("Expected `object`")


def test_a_null_key_is_rejected() -> None:
    assert reason_for(msgspec.json.encode(GOOD), key=None) == ("validate", "key is null; expected the user_id")


def test_the_reason_does_not_repeat_the_persons_data() -> None:
    assert "secret" not in reason_for(msgspec.json.encode(GOOD | {"price": "secret"}))[1]
    assert explain(KeyError("secret")) == ("decode", "KeyError")


def test_one_bad_record_spoils_none_of_its_neighbours() -> None:
    good = msgspec.json.encode(GOOD)
    accepted, rejected = validate(batch(good, b"{", good), allowed_skew_ms=1_000)
    assert [i.offset for i in accepted] == [10, 12]
    assert [r.offset for r in rejected] == [11]


def test_a_dead_letter_keeps_bytes_key_and_partition_and_says_where_it_came_from() -> None:
    _, rejected = validate(batch(b"{"), allowed_skew_ms=1_000)
    (topic, partition, key, value, headers) = letters(rejected)[0]
    assert (topic, partition, key, value) == ("clickstream.events.dlq", 1, b"ada", b"{")
    assert headers == headers_of(rejected[0])
    assert dict(headers)["__connect.errors.offset"] == b"10"


def test_redelivered_records_are_cut_off_at_the_ledger() -> None:
    run = batch(b"a", b"b", b"c")
    assert beyond(run, None) is run
    kept = beyond(run, 11)
    assert kept is not None
    assert (kept.offsets, kept.values, kept.next_offset) == ([11, 12], [b"b", b"c"], 13)
    assert beyond(run, 13) is None


def test_interactions_leave_in_offset_order_and_late_ones_do_not_reach_item_features() -> None:
    accepted, _ = validate(batch(*[msgspec.json.encode(GOOD)] * 3), allowed_skew_ms=1_000)
    late = msgspec.structs.replace(accepted[1], late=True)
    outcome = Outcome(
        records=batch(b"", b"", b""), rejected=[], applied=[accepted[0], accepted[2]], late=[late], event_ids=[]
    )
    by_user, by_item = outcome.messages()
    assert [msgspec.json.decode(value, type=Interaction).offset for _, value in by_user] == [10, 11, 12]
    assert [(key, msgspec.json.decode(value, type=Interaction).offset) for key, value in by_item] == [
        (b"mug", 10),
        (b"mug", 12),
    ]
    assert outcome.counts()["received"] == 3


def test_no_millisecond_is_lost_on_the_way_from_text() -> None:
    start = datetime(1971, 1, 1, tzinfo=UTC)
    rng = random.Random(3)
    for _ in range(20_000):
        micros = rng.randrange(80 * 365 * 24 * 3600 * 10**6)
        moment = start + timedelta(microseconds=micros)
        assert to_ms(moment) == (moment - EPOCH) // timedelta(milliseconds=1)
        whole = start + timedelta(milliseconds=micros // 1000)
        assert to_ms(whole) == (whole - EPOCH) // timedelta(milliseconds=1)


def test_a_letter_too_large_for_kafka_is_cut_and_says_how_large_it_was() -> None:
    _, rejected = validate(batch(b"{" + b"x" * 3_000_000, key=b"k" * 200_000), allowed_skew_ms=1_000)
    cut = shortened(Outgoing(*letters(rejected)[0]))
    assert cut.value == rejected[0].value[:524_288]  # type: ignore[index]
    assert len(cut.key or b"") == 65_536
    assert dict(cut.headers)["__connect.errors.value.bytes"] == b"3000001"
    assert dict(cut.headers)["__connect.errors.offset"] == b"10"
