"""Bytes to interactions: decode and check clickstream records; what is wrong with a record is a value, never an exception."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from streams.events import ClickstreamEvent, Interaction

CONFLUENT_MAGIC = 0  # "magic byte, 4-byte schema id" in front of what a schema-registry serializer wrote (PITFALLS 6)
CONFLUENT_PREFIX_BYTES = 5
REASON_CHARS = 300
NO_TIMESTAMP = -1  # a record of a producer older than Kafka 0.10

_decode = msgspec.json.Decoder(ClickstreamEvent).decode


class Records(Protocol):
    """A run of records of one partition, oldest first (`streams.transport.RecordBatch`)."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offsets(self) -> Sequence[int]: ...
    @property
    def keys(self) -> Sequence[bytes | None]: ...
    @property
    def values(self) -> Sequence[bytes | None]: ...
    @property
    def timestamps_ms(self) -> Sequence[int]: ...


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
    return _decode(value)


def validate(records: Records, *, allowed_skew_ms: int) -> tuple[list[Interaction], list[RejectedEvent]]:
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
    for offset, key, value, appended_at_ms in zip(
        records.offsets, records.keys, records.values, records.timestamps_ms, strict=True
    ):
        try:
            event = decode_event(value)
            event_time_ms = int(event.event_time.timestamp() * 1000)
            if key is None or key != event.user_id.encode():
                raise UnusableError(stage="validate", reason=_wrong_key(key))
            if event_time_ms > appended_at_ms + allowed_skew_ms and appended_at_ms != NO_TIMESTAMP:
                raise UnusableError(stage="time", reason=_future(event_time_ms - appended_at_ms, allowed_skew_ms))
            if event_time_ms < 0:
                raise UnusableError(stage="time", reason="event_time is before 1970-01-01T00:00:00Z")
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
                )
            )
        except Exception as exc:  # noqa: BLE001 - a shop's bytes may break any parser; one bad record must not stop the rest
            stage, reason = explain(exc)
            rejected.append(
                RejectedEvent(
                    topic=records.topic,
                    partition=partition,
                    offset=offset,
                    key=key,
                    value=value,
                    stage=stage,
                    reason=reason,
                )
            )
    return accepted, rejected


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


def _wrong_key(key: bytes | None) -> str:
    return "key is null; expected the event's user_id" if key is None else "key is not the event's user_id"


def _future(ahead_ms: int, allowed_ms: int) -> str:
    return f"event_time is {ahead_ms / 1000:.1f} s ahead of the record's timestamp; allowed are {allowed_ms / 1000:.1f} s"
