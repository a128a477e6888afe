"""What is remembered of one person, as a pure function of their events in order.

Nothing here reads a clock or rolls a die: a plain recount of the same events in the same order gives the same state,
counts, histories and times to the unit, decayed counters within rounding.
"""

from array import array
from bisect import bisect_right
from sys import intern

from feature_store import decay
from feature_store.event_types import AFFINITY_WEIGHTS, CODES, EVENT_TYPES, OTHER, PASSIVE

NEVER_MS = -(2**62)  # the last event of someone never seen
SESSION_GAP_MS = 30 * 60_000
AFFINITY_NAMES = 32  # most categories and brands remembered per person
CODE_BITS = 8  # a moment is time_ms << CODE_BITS | code

# The layout of `counts`: lifetime counts by event type, then these.
LAST_EVENT_MS = len(EVENT_TYPES)
SESSION_START_MS = LAST_EVENT_MS + 1
SESSION_EVENTS = LAST_EVENT_MS + 2
COUNTS = LAST_EVENT_MS + 3

_NOBODY = array("q", [0] * len(EVENT_TYPES) + [NEVER_MS, NEVER_MS, 0])
_ANY_CODE = (1 << CODE_BITS) - 1
_AFFINITY_HALF_LIFE_MS = decay.HALF_LIVES_MS[-1]


class UserState:
    """One person's state.

    Args:
        history_length: Most interactions kept; at least 1.

    Attributes:
        decayed: Flat decayed counters, `decay.BLOCK` per event type.
        counts: Lifetime counts by event type, then last event, session start and session events.
        items: The last interactions' item_ids, oldest first. Searches and impressions are not among them.
        moments: Beside each item, `time_ms << 8 | code`.
        affinity: By name ("category:Shoes", "brand:Acme"), decayed weight and the time it is valid at.
        erased_until_ms: Events up to this time are forgotten and must not be applied; None where nothing was asked.
        key: Serialized Feast entity key.
        stamp: Postgres transaction that wrote the stored row which this state stands for; None where there is no row.

    >>> user = UserState()
    >>> user.apply("kettle", "view", 1000); user.apply("mug", "purchase", 3000); user.apply("teapot", "cart", 2000)
    >>> list(user.history()) == [("kettle", 1000, "view"), ("teapot", 2000, "cart"), ("mug", 3000, "purchase")]
    True
    >>> user.count_of("purchase"), user.last_event_ms
    (1, 3000)
    """

    __slots__ = (
        "affinity", "counts", "decayed", "erased_until_ms", "flushed", "history_length",
        "items", "key", "moments", "stamp",
    )  # fmt: skip

    def __init__(self, *, history_length: int = 50) -> None:
        self.decayed = decay.empty()
        self.counts = _NOBODY[:]
        self.items: list[str] = []
        self.moments = array("q")
        self.affinity: dict[str, list[float]] | None = None
        self.history_length = history_length
        self.erased_until_ms: int | None = None
        self.key = b""
        self.stamp: int | None = None
        self.flushed = 0  # `events` when last written or read

    def apply(
        self, item_id: str, event_type: str, event_time_ms: int, category: str | None = None, brand: str | None = None
    ) -> None:
        """Take in one event. Whether it is late or erased is the caller's question; here it may come in any order."""
        code = CODES.get(event_type, OTHER)
        counts = self.counts
        counts[code] += 1
        decay.add(self.decayed, code * decay.BLOCK, event_time_ms)

        last_ms = counts[LAST_EVENT_MS]
        if event_time_ms - last_ms > SESSION_GAP_MS:
            counts[SESSION_START_MS] = event_time_ms
            counts[SESSION_EVENTS] = 1
        elif event_time_ms >= counts[SESSION_START_MS]:
            counts[SESSION_EVENTS] += 1
        elif event_time_ms >= counts[SESSION_START_MS] - SESSION_GAP_MS:  # came late, and began the session
            counts[SESSION_EVENTS] += 1
            counts[SESSION_START_MS] = event_time_ms
        if event_time_ms > last_ms:
            counts[LAST_EVENT_MS] = event_time_ms

        if code in PASSIVE:
            return
        self._remember(intern(item_id), event_time_ms << CODE_BITS | code)
        if category is not None or brand is not None:
            self._prefer(AFFINITY_WEIGHTS[code], event_time_ms, category, brand)

    def _remember(self, item_id: str, moment: int) -> None:
        moments = self.moments
        if not moments or moment >> CODE_BITS >= moments[-1] >> CODE_BITS:
            self.items.append(item_id)
            moments.append(moment)
        else:  # by time, then by arrival: after everything of the same millisecond
            place = bisect_right(moments, moment | _ANY_CODE)
            self.items.insert(place, item_id)
            moments.insert(place, moment)
        if len(moments) > self.history_length:
            del self.items[0], moments[0]

    def _prefer(self, weight: float, time_ms: int, category: str | None, brand: str | None) -> None:
        if not weight:
            return
        affinity = self.affinity = {} if self.affinity is None else self.affinity
        names = (f"category:{category}" if category else None, f"brand:{brand}" if brand else None)
        for name in filter(None, names):
            entry = affinity.setdefault(name, [0.0, float(time_ms)])
            last_ms = max(entry[1], time_ms)
            entry[0] = decay.at(entry[0], entry[1], last_ms, _AFFINITY_HALF_LIFE_MS) + decay.at(
                weight, time_ms, last_ms, _AFFINITY_HALF_LIFE_MS
            )
            entry[1] = last_ms
        while len(affinity) > AFFINITY_NAMES:
            del affinity[min(affinity, key=self._strength)]

    def _strength(self, name: str) -> tuple[float, str]:
        weight, last_ms = (self.affinity or {})[name]
        return decay.at(weight, last_ms, self.counts[LAST_EVENT_MS], _AFFINITY_HALF_LIFE_MS), name

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

    def history(self) -> list[tuple[str, int, str]]:
        """Give the last interactions as (item_id, time_ms, event_type), oldest first; custom types read "other"."""
        return [
            (item_id, moment >> CODE_BITS, EVENT_TYPES[moment & _ANY_CODE])
            for item_id, moment in zip(self.items, self.moments, strict=True)
        ]

    def clear(self) -> None:
        """Forget everything but who this is and until when they are erased."""
        self.decayed = decay.empty()
        self.counts = _NOBODY[:]
        self.items, self.moments, self.affinity = [], array("q"), None
        self.stamp, self.flushed = None, 0
