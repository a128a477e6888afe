"""Bytes to interactions: decode and check clickstream records; what is wrong is a value, never an exception."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from learners.mixture.context_pool import SURFACES, surface_of
from streams.batches import RecordBatch
from streams.decoding import decode
from streams.events import ClickstreamEvent, Interaction, to_ms

CONFLUENT_MAGIC = 0  # "magic byte, 4-byte schema id" in front of what a schema-registry serializer wrote (PITFALLS 6)
CONFLUENT_PREFIX_BYTES = 5
REASON_CHARS = 300
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent:
    """One record that cannot be used, with the stage that noticed and what is wrong; goes to `<topic>.dlq`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    stage: str  # decode | validate | time
    reason: str


class UnusableError(ValueError):
    """A record is readable but cannot be used; carries the stage and the reason for its dead letter."""

    def __init__(self, *, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.reason = stage, reason


def decode_event(value: bytes | None) -> ClickstreamEvent:
    """One clickstream event from the bytes of a record's value.

    Raises:
        UnusableError: If there is no value.
        msgspec.MsgspecError: If the bytes are not a valid event.
        UnicodeDecodeError: If the bytes are not UTF-8.

    >>> decode_event(None)
    Traceback (most recent call last):
        ...
    streams.validation.UnusableError: value is null; expected a JSON object
    """
    if not value:
        what = "null" if value is None else "empty"
        raise UnusableError(stage="decode", reason=f"value is {what}; expected a JSON object")
    if value[0] == CONFLUENT_MAGIC and len(value) > CONFLUENT_PREFIX_BYTES:
        value = value[CONFLUENT_PREFIX_BYTES:]
    return decode(value)


def validate(records: RecordBatch, *, allowed_skew_ms: int) -> tuple[list[Interaction], list[RejectedEvent]]:
    """Sort a run of records into interactions and rejected events; every record ends in exactly one of the two.

    Args:
        records: What Kafka delivered of one partition.
        allowed_skew_ms: How far ahead of its record's Kafka timestamp an event may be. The wall clock is not asked, so
            that a replay decides as the first run did.

    Returns:
        Interactions, in offset order; rejected events, in offset order.
    """
    accepted: list[Interaction] = []
    rejected: list[RejectedEvent] = []
    partition = records.partition
    columns = zip(records.offsets, records.keys, records.values, records.timestamps_ms, strict=True)
    for place, (offset, key, value, appended_at_ms) in enumerate(columns):
        try:
            event = decode_event(value)
            event_time_ms = to_ms(event.event_time)
            _check(event, key, ahead_ms=event_time_ms - appended_at_ms, allowed_skew_ms=allowed_skew_ms)
            accepted.append(
                Interaction(
                    event_id=event.event_id,
                    user_id=event.user_id,
                    item_id=event.item_id,
                    event_type=event.event_type,
                    event_time_ms=event_time_ms,
                    appended_at_ms=appended_at_ms,
                    partition=partition,
                    offset=offset,
                    session_id=event.session_id,
                    query=event.query,
                    ranking_id=event.ranking_id,
                    position=event.position,
                    price=event.price,
                    quantity=event.quantity,
                    surface=surface_in(event.context) if event.context else None,
                )
            )
        except Exception as exc:  # noqa: BLE001 - a shop's bytes may break any parser; one bad record must not stop the rest
            rejected.append(rejection(records, place, exc))
    return accepted, rejected


def surface_in(context: Mapping[str, Any]) -> str | None:
    """Return the surface that an event's context names, if it is one that the mixture has weights for.

    >>> surface_in({"surface": "Search"}), surface_in({"surface": "fridge door"}), surface_in({"surface": 3})
    ('search', None, None)
    """
    named = context.get("surface")
    return SURFACES[surface_of(named)] or None if isinstance(named, str) else None


def explain(exc: Exception) -> tuple[str, str]:
    """The stage and the reason that a dead letter states for an error, without repeating the person's data.

    >>> explain(UnusableError(stage="time", reason="event_time is before 1970"))
    ('time', 'event_time is before 1970')
    """
    match exc:
        case UnusableError():
            return exc.stage, exc.reason[:REASON_CHARS]
        case msgspec.ValidationError():
            return "validate", str(exc)[:REASON_CHARS]
        case msgspec.DecodeError():
            return "decode", str(exc)[:REASON_CHARS]
        case UnicodeError():
            return "decode", f"not UTF-8: {exc.reason if isinstance(exc, UnicodeDecodeError) else type(exc).__name__}"
        case _:
            return "decode", type(exc).__name__


def rejection(records: RecordBatch, place: int, exc: Exception) -> RejectedEvent:
    """The dead letter of one record of a run.

    Args:
        records: The run.
        place: Which of its records, from 0.
        exc: What is wrong with it.
    """
    stage, reason = explain(exc)
    return RejectedEvent(
        topic=records.topic,
        partition=records.partition,
        offset=records.offsets[place],
        key=records.keys[place],
        value=records.values[place],
        stage=stage,
        reason=reason,
    )


def _check(event: ClickstreamEvent, key: bytes | None, *, ahead_ms: int, allowed_skew_ms: int) -> None:
    """What the schema cannot say.

    Args:
        event: Decoded.
        key: The record's.
        ahead_ms: How far the event is ahead of its record's Kafka timestamp.
        allowed_skew_ms: How far it may be.
    """
    check_key(key, event.user_id)
    if ahead_ms > allowed_skew_ms:
        ahead_s, allowed_s = ahead_ms / 1000, allowed_skew_ms / 1000
        reason = f"event_time is {ahead_s:.1f} s ahead of the record's timestamp; allowed are {allowed_s:.1f} s"
        raise UnusableError(stage="time", reason=reason)
    if event.event_time < EPOCH:
        raise UnusableError(stage="time", reason="event_time is before 1970-01-01T00:00:00Z")


def check_key(key: bytes | None, user_id: str) -> None:
    """Refuse a record whose key is not its user_id: it lies in a partition whose worker does not own the person.

    Raises:
        UnusableError: If it is not.
    """
    if key is None:
        raise UnusableError(stage="validate", reason="key is null; expected the user_id")
    if key != user_id.encode():
        raise UnusableError(stage="validate", reason="key is not the user_id")
