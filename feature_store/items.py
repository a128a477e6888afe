"""What is remembered of one item: decayed and lifetime counters by event type, and when the last event was."""

from array import array

from feature_store import decay
from feature_store.event_types import CODES, EVENT_TYPES, OTHER
from feature_store.users import LAST_EVENT_MS, NEVER_MS

COUNTS = LAST_EVENT_MS + 1  # the layout of `counts`: lifetime counts by event type, then the last event's time

_NOTHING = array("q", [0] * len(EVENT_TYPES) + [NEVER_MS])


class ItemState:
    """One item's state; the order of its events matters only for rounding, since they come from many partitions.

    Attributes:
        decayed: Flat decayed counters, `decay.BLOCK` per event type.
        counts: Lifetime counts by event type, then the last event's time.
        key: Serialized Feast entity key.
        stamp: Postgres transaction that wrote the stored row which this state stands for; None where there is no row.

    >>> item = ItemState()
    >>> item.apply("view", 2000); item.apply("view", 1000)
    >>> item.count_of("view"), item.last_event_ms
    (2, 2000)
    """

    __slots__ = ("counts", "decayed", "flushed", "key", "stamp")

    def __init__(self) -> None:
        self.decayed = decay.empty()
        self.counts = _NOTHING[:]
        self.key = b""
        self.stamp: int | None = None
        self.flushed = 0  # `events` when last written or read

    def apply(self, event_type: str, event_time_ms: int) -> None:
        """Take in one event."""
        code = CODES.get(event_type, OTHER)
        counts = self.counts
        counts[code] += 1
        counts[LAST_EVENT_MS] = max(counts[LAST_EVENT_MS], event_time_ms)
        decay.add(self.decayed, code * decay.BLOCK, event_time_ms)

    @property
    def events(self) -> int:
        """Events applied so far; it only grows."""
        return sum(self.counts[:LAST_EVENT_MS])

    @property
    def last_event_ms(self) -> int:
        """When the newest event happened; `NEVER_MS` before the first."""
        return self.counts[LAST_EVENT_MS]

    def count_of(self, event_type: str) -> int:
        """Give the lifetime count of one of `EVENT_TYPES`."""
        return self.counts[EVENT_TYPES.index(event_type)]
