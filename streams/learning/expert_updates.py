"""`experts.updates`: the newest value of every key, kept within reach of a reader who starts now.

A broker that compacts keeps the newest value of each key by itself. The embedded broker does not, and forgets all but
the last 5 MiB. So what was written long ago, counted in bytes, is written again: whatever is left of the topic holds
every key, wherever a reader starts.
"""

from collections.abc import Iterable

import msgspec

from streams.events import ExpertUpdate

REFRESH_AFTER_BYTES = 6 * 1024 * 1024  # before compression to about half: of the 5 MiB that the embedded broker keeps
_AMPLIFICATION = 3  # at most this many bytes written again for each new one: keys beyond reach must not flood the topic
_RECORD_OVERHEAD_BYTES = 24

Record = tuple[bytes, bytes | None]

_encode = msgspec.json.Encoder().encode


class ExpertLog:
    """Turn dirty keys into records, and repeat what is about to fall out of reach.

    Args:
        refresh_after_bytes: A key whose newest record has this many bytes behind it is written again.

    >>> updates = ExpertLog(refresh_after_bytes=500)
    >>> len(updates.write([("popularity", "mug", b'{"count":1}')], interactions=1, now_ms=5))
    1
    >>> [len(updates.write([("recency", "", b'{"n":1}')], interactions=n, now_ms=n)) for n in range(5)]
    [1, 1, 2, 1, 1]
    """

    def __init__(self, *, refresh_after_bytes: int = REFRESH_AFTER_BYTES) -> None:
        self._refresh_after_bytes = refresh_after_bytes
        self._newest: dict[bytes, tuple[bytes, int]] = {}  # key -> value, bytes written before it; oldest first
        self._credit_bytes = 0
        self.written_bytes = 0
        self.records = 0

    def __len__(self) -> int:
        """Live keys."""
        return len(self._newest)

    @property
    def live_bytes(self) -> int:
        """Size of one copy of every key."""
        return sum(_size(key, value) for key, (value, _) in self._newest.items())

    def write(
        self, updates: Iterable[tuple[str, str, bytes | None]], *, interactions: int, now_ms: int
    ) -> list[Record]:
        """Return the records to publish, in order.

        Args:
            updates: Expert, key and JSON payload of whatever changed; payload None removes the key.
            interactions: Observed so far.
            now_ms: Wall clock.
        """
        records: list[Record] = []
        before = self.written_bytes
        for expert, key, payload in updates:
            wire_key = f"{expert}/{key}".encode()
            value = None if payload is None else _value(expert, key, payload, interactions, now_ms)
            if value is None and wire_key not in self._newest:
                continue  # never published, or gone already
            self._append(wire_key, value, records)
        self._credit_bytes = _AMPLIFICATION * (self.written_bytes - before) + min(self._credit_bytes, 64 * 1024)
        self._refresh(records)
        return records

    def forget_strangers(self, live: Iterable[bytes]) -> list[Record]:
        """Return tombstones for keys found on the topic that are not ours: what an earlier learner left."""
        return [(key, None) for key in live if key not in self._newest]

    def _refresh(self, records: list[Record]) -> None:
        while self._newest:
            key = next(iter(self._newest))
            value, position = self._newest[key]
            if self.written_bytes - position <= self._refresh_after_bytes or self._credit_bytes <= 0:
                return
            self._credit_bytes -= _size(key, value)
            self._append(key, value, records)

    def _append(self, key: bytes, value: bytes | None, records: list[Record]) -> None:
        self._newest.pop(key, None)
        if value is not None:
            self._newest[key] = value, self.written_bytes
        self.written_bytes += _size(key, value)
        self.records += 1
        records.append((key, value))


def _value(expert: str, key: str, payload: bytes, interactions: int, now_ms: int) -> bytes:
    return _encode(
        ExpertUpdate(
            expert=expert,
            key=key,
            payload=msgspec.Raw(payload),
            interactions=interactions,
            updated_at_ms=now_ms,
        )
    )


def _size(key: bytes, value: bytes | None) -> int:
    return len(key) + len(value or b"") + _RECORD_OVERHEAD_BYTES
