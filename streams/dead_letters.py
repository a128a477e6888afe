"""Dead letters: what a consumer rejects goes to `<topic>.dlq` with its original bytes and, in headers, the reason."""

from collections.abc import Iterable

from learners.text import cut_utf8
from streams.publisher import Outgoing
from streams.topics import DLQ_SUFFIX
from streams.validation import RejectedEvent

# Kafka Connect's names, which DLQ tools already know; `exception.message` states the reason.
HEADER_PREFIX = "__connect.errors."
KEPT_VALUE_BYTES, KEPT_KEY_BYTES = 512 * 1024, 64 * 1024  # of a letter too large to send whole

Headers = list[tuple[str, bytes]]


def headers_of(rejected: RejectedEvent) -> Headers:
    """Where the record came from and why it is here.

    >>> letter = RejectedEvent(topic="t", partition=2, offset=7, key=b"u", value=b"{", stage="decode", reason="cut off")
    >>> dict(headers_of(letter))["__connect.errors.exception.message"]
    b'cut off'
    """
    fields = {
        "topic": rejected.topic,
        "partition": str(rejected.partition),
        "offset": str(rejected.offset),
        "stage": rejected.stage,
        "exception.class.name": "RejectedEvent",
        "exception.message": rejected.reason,
    }
    return [(HEADER_PREFIX + name, value.encode(errors="replace")) for name, value in fields.items()]


def letters(rejected: Iterable[RejectedEvent]) -> list[tuple[str, int, bytes | None, bytes | None, Headers]]:
    """Records for the publisher: (topic, partition, key, value, headers); a letter keeps its source's partition."""
    return [(r.topic + DLQ_SUFFIX, r.partition, r.key, r.value, headers_of(r)) for r in rejected]


def shortened(letter: Outgoing) -> Outgoing:
    """A letter that is too large for Kafka, cut to what fits; a header says how large the original is.

    The original itself is still at the topic, partition and offset that the headers name. Text is cut between
    characters, so that it can still be read.

    >>> cut = shortened(Outgoing("t.dlq", 0, b"k", b"x" * 2_000_000, ()))
    >>> len(cut.value), dict(cut.headers)
    (524288, {'__connect.errors.value.bytes': b'2000000'})
    """
    value, key = letter.value or b"", letter.key or b""
    headers = [*letter.headers, (HEADER_PREFIX + "value.bytes", str(len(value)).encode())]
    return letter._replace(key=cut_utf8(key, KEPT_KEY_BYTES), value=cut_utf8(value, KEPT_VALUE_BYTES), headers=headers)
