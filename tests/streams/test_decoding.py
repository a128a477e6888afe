import contextlib
import random

import msgspec
import pytest

from streams import decoding
from streams.decoding import decode
from streams.events import ClickstreamEvent

GOOD = {
    "event_id": "e1",
    "user_id": "ada",
    "item_id": "mug",
    "event_type": "click",
    "event_time": "2026-01-31T12:00:00.123Z",
}


def verdict(decoder, value: bytes) -> object:
    try:
        event = decoder(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        return type(exc)
    return {name: getattr(event, name) for name in ClickstreamEvent.__struct_fields__}


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "event_type", "session_id", "ranking_id", "query"])
@pytest.mark.parametrize(
    "text", ["", "a", "A-z_0.9:x", "1a", "a b", "a\0b", "\0", "ü", "a\n", "a\\b", 'a"b', "x" * 64, "x" * 65, "x" * 257]
)
def test_every_string_gets_the_wires_own_verdict(field: str, text: str) -> None:
    value = msgspec.json.encode(GOOD | {field: text})
    for _ in range(2):  # the second time with what was remembered
        assert verdict(decode, value) == verdict(msgspec.json.Decoder(ClickstreamEvent).decode, value)


def test_mutated_bytes_get_the_wires_own_verdict() -> None:
    rng, strict = random.Random(7), msgspec.json.Decoder(ClickstreamEvent).decode
    whole = msgspec.json.encode(GOOD | {"session_id": "s", "price": 1.5, "position": 3, "context": {"a": [1, "\n"]}})
    accepted = 0
    for _ in range(20_000):
        value = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            with contextlib.suppress(IndexError):
                value[rng.randrange(len(value))] = rng.choice(b'\0"\\{}[]:,0aZ\xff u')
        expected = verdict(strict, bytes(value))
        assert verdict(decode, bytes(value)) == expected
        accepted += isinstance(expected, dict)
    assert accepted > 1000  # the test tries both sides


def test_remembered_types_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(decoding, "KNOWN_TYPES", 5)
    for number in range(50):
        assert decode(msgspec.json.encode(GOOD | {"event_type": f"type-{number}"})).event_type == f"type-{number}"
    assert len(decoding._good_types) <= 5


def test_the_quick_decoder_knows_every_field() -> None:
    fields = msgspec.structs.fields(decoding._Unpatterned)
    assert [f.name for f in fields] == [f.name for f in msgspec.structs.fields(ClickstreamEvent)]
