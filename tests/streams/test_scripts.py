"""Events and items in any script go through: nothing raises, nothing is altered, nothing is cut inside a character."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from learners.items.catalog import Catalog
from learners.text import scrubbed
from streams.batches import RecordBatch
from streams.dead_letters import KEPT_KEY_BYTES, KEPT_VALUE_BYTES, headers_of, shortened
from streams.events import CatalogItem
from streams.learning.knowledge import apply_catalogue
from streams.publisher import Outgoing
from streams.validation import validate

NOW_MS = 1_769_860_800_000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


def batch(key: bytes, value: bytes) -> RecordBatch:
    return RecordBatch(
        topic="clickstream.events", partition=0, offsets=[3], keys=[key], values=[value], timestamps_ms=[NOW_MS]
    )


def event(**fields: object) -> bytes:
    common = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "search"}
    return msgspec.json.encode(common | {"event_time": "2026-01-31T12:00:00Z"} | fields)


@given(TEXT, TEXT)
def test_ids_and_queries_of_any_script_arrive_as_they_were_sent(name: str, query: str) -> None:
    value = event(user_id=name, item_id=name, event_id=name, query=query)
    accepted, rejected = validate(batch(name.encode(), value), allowed_skew_ms=0)
    if "\0" in name:
        assert not accepted
        assert rejected[0].stage == "validate"
    else:
        assert not rejected
        assert (accepted[0].user_id, accepted[0].item_id, accepted[0].query) == (name, name, query)


@given(st.text(st.characters(codec=None), max_size=30))
def test_half_a_surrogate_pair_in_an_event_is_a_dead_letter_and_no_exception(text: str) -> None:
    escaped = "".join(f"\\u{ord(mark):04x}" if ord(mark) < 0x1_0000 else mark for mark in text)
    value = event(query="@").replace(b'"@"', f'"{escaped}"'.encode("utf-8", "surrogatepass"))
    accepted, rejected = validate(batch(b"u", value), allowed_skew_ms=0)
    assert len(accepted) + len(rejected) == 1
    if accepted:
        assert accepted[0].query.encode().decode() == accepted[0].query
    else:
        assert all(value.decode() is not None for _, value in headers_of(rejected[0]))


@given(TEXT, TEXT)
def test_an_item_of_any_script_is_listed(title: str, brand: str) -> None:
    catalog = Catalog()
    item = CatalogItem(item_id="i", title=title, brand=brand, category=(title, brand), attributes={title: brand})
    listed, unreadable = apply_catalogue(catalog, batch(b"i", msgspec.json.encode(item)))
    assert (listed, unreadable) == ([1], 0)
    assert catalog.title_of(1) == title
    assert scrubbed(title).strip() in catalog.text_of(1)


def test_a_letter_too_large_is_cut_between_characters() -> None:
    value = b'{"title":"' + "防晒霜😀".encode() * 60_000
    letter = shortened(Outgoing("t.dlq", 0, "茶".encode() * 40_000, value, ()))
    assert KEPT_VALUE_BYTES - 3 <= len(letter.value) <= KEPT_VALUE_BYTES
    assert KEPT_KEY_BYTES - 3 <= len(letter.key) <= KEPT_KEY_BYTES
    assert value.decode().startswith(letter.value.decode())
    assert set(letter.key.decode()) == {"茶"}
