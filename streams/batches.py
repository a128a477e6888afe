"""A run of records of one partition: what the transport hands to an agent, and the reader to a loop."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatch:
    """Records of one partition in offset order, column by column; at least one.

    Offsets rise but may have gaps: compaction removes records, and transactions leave markers.

    Args:
        topic: Where the records are from.
        partition: The same.
        offsets: Of each record.
        keys: Of each record, as sent.
        values: Of each record, as sent.
        timestamps_ms: Of each record: milliseconds since 1970, -1 if the producer gave none.
        position: Where reading goes on, if that is known to lie beyond the last record + 1.
        truncated: Offsets that retention had deleted before they could be read, at or before this run.

    >>> batch = RecordBatch(topic="t", partition=0, offsets=[4, 7], keys=[b"u", b"v"], values=[b"{}", b"{}"],
    ...                     timestamps_ms=[1, 2])
    >>> len(batch), batch.first_offset, batch.last_offset, batch.next_offset
    (2, 4, 7, 8)
    """

    topic: str
    partition: int
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps_ms: list[int]
    position: int | None = None
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def first_offset(self) -> int:
        return self.offsets[0]

    @property
    def last_offset(self) -> int:
        return self.offsets[-1]

    @property
    def next_offset(self) -> int:
        """The offset to commit once every record has taken effect."""
        return self.offsets[-1] + 1 if self.position is None else self.position

    def tail(self, start: int) -> "RecordBatch":
        """The records from index `start` on; at least one must be left."""
        return replace(
            self,
            offsets=self.offsets[start:],
            keys=self.keys[start:],
            values=self.values[start:],
            timestamps_ms=self.timestamps_ms[start:],
        )


class Run:
    """A batch in the making: records of one partition between two positions of its log.

    Consecutive runs chain: each starts where the one before stopped. Whoever receives runs can therefore tell, without
    trusting anyone's timing, that nothing was left out between them.

    Args:
        topic: Where the records are from.
        partition: The same.
        start: Position in the log at which the run begins.
    """

    __slots__ = ("keys", "offsets", "partition", "position", "start", "timestamps_ms", "topic", "truncated", "values")

    def __init__(self, topic: str, partition: int, start: int) -> None:
        self.topic, self.partition = topic, partition
        self.start = self.position = start
        self.truncated = 0
        self.offsets: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.timestamps_ms: list[int] = []

    def __len__(self) -> int:
        return len(self.offsets)

    def extend(self, records: Collection[Any], *, position: int) -> None:
        """Append aiokafka's records; reading goes on at `position`."""
        self.offsets += [record.offset for record in records]
        self.keys += [record.key for record in records]
        self.values += [record.value for record in records]
        self.timestamps_ms += [record.timestamp for record in records]
        self.position = position

    def batch(self) -> RecordBatch:
        """The finished batch."""
        return RecordBatch(
            topic=self.topic,
            partition=self.partition,
            offsets=self.offsets,
            keys=self.keys,
            values=self.values,
            timestamps_ms=self.timestamps_ms,
            position=self.position,
            truncated=self.truncated,
        )


def pieces(batch: RecordBatch, size: int) -> Iterator[RecordBatch]:
    """Cut a run of records into shorter ones, in order.

    >>> batch = RecordBatch(topic="t", partition=0, offsets=[3, 4, 7], keys=[None] * 3, values=[None] * 3,
    ...                     timestamps_ms=[0] * 3, position=9, truncated=3)
    >>> [(piece.offsets, piece.next_offset, piece.truncated) for piece in pieces(batch, 2)]
    [([3, 4], 5, 3), ([7], 9, 0)]
    """
    for start in range(0, len(batch), size):
        last = start + size >= len(batch)
        part = slice(start, start + size)
        yield RecordBatch(
            topic=batch.topic,
            partition=batch.partition,
            offsets=batch.offsets[part],
            keys=batch.keys[part],
            values=batch.values[part],
            timestamps_ms=batch.timestamps_ms[part],
            position=batch.position if last else None,
            truncated=0 if start else batch.truncated,
        )
