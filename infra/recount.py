"""A plain recount of a log: what the features of users and items must be, worked out the slow and obvious way.

It shares no code with `feature_store`; where the two agree, the pipeline neither lost, repeated nor misplaced an
event. Everything is kept until the end and summed directly from the definition: a decayed counter at time T is the sum
over its events of `2 ** (-(T - t) / half_life)`.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

EVENT_TYPES = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
HALF_LIVES_MS = (3_600_000, 86_400_000, 14 * 86_400_000)  # 1 h, 1 d, 14 d
HISTORY_LENGTH = 50
RELATIVE_TOLERANCE = 1e-9


class Event(Protocol):
    """What the recount needs of an event (`streams.eventlog.LoggedEvent`)."""

    @property
    def event_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def event_time_ms(self) -> int: ...


@dataclass(slots=True)
class Tally:
    """All that happened to one user or item: the times by event type; for users, the events in order of arrival too."""

    times_ms: dict[str, list[int]] = field(default_factory=dict)
    events: list[tuple[int, str, str]] = field(default_factory=list)  # time, item_id, type

    def counts(self) -> dict[str, int]:
        """Lifetime counts by event type."""
        return {name: len(times) for name, times in self.times_ms.items()}

    def last_event_ms(self) -> int:
        """When the newest event happened."""
        return max(max(times) for times in self.times_ms.values())

    def history(self) -> list[tuple[str, int, str]]:
        """The last events as (item_id, time, type), by event time and then arrival, oldest first."""
        ordered = sorted(self.events, key=lambda event: event[0])  # stable: equal times stay in order of arrival
        return [(item_id, time_ms, name) for time_ms, item_id, name in ordered[-HISTORY_LENGTH:]]

    def decayed(self, event_type: str, *, at_ms: int) -> tuple[float, ...]:
        """The counter of one event type at a time, for each half-life."""
        times = self.times_ms.get(event_type, [])
        return tuple(
            math.fsum(2.0 ** (-(at_ms - time_ms) / half_life) for time_ms in times) for half_life in HALF_LIVES_MS
        )


@dataclass(slots=True)
class Recount:
    """The tallies of every user and item, and how the events were sorted."""

    users: dict[str, Tally] = field(default_factory=dict)
    items: dict[str, Tally] = field(default_factory=dict)
    applied: int = 0
    late: int = 0
    duplicate: int = 0
    rejected: int = 0
    erased: int = 0


def recount(
    events: Iterable[Event],
    *,
    allowed_lateness_ms: int,
    rejected: Collection[str] = frozenset(),
    erasures: Mapping[str, int] | None = None,
) -> Recount:
    """Count a log as the promises say: each event_id once, late ones aside, erased people not at all.

    Args:
        events: In order of arrival.
        allowed_lateness_ms: An event older than its user's newest by more than this is late: in no state.
        rejected: event_ids that lie in the dead-letter topic.
        erasures: user_id -> time (ms) up to which the person's events are forgotten.

    >>> class Happened:
    ...     def __init__(self, number, time_ms):
    ...         self.event_id, self.event_time_ms = f"e{number}", time_ms
    ...         self.user_id, self.item_id, self.event_type = "u", "i", "view"
    >>> log = [Happened(1, 5_000), Happened(2, 8_000), Happened(2, 8_000), Happened(3, 0)]
    >>> counted = recount(log, allowed_lateness_ms=6_000)
    >>> counted.applied, counted.duplicate, counted.late, counted.users["u"].counts()
    (2, 1, 1, {'view': 2})
    """
    result = Recount()
    seen: set[str] = set()
    newest_ms: dict[str, int] = {}
    for event in events:
        user_id, time_ms = event.user_id, event.event_time_ms
        if event.event_id in rejected:
            result.rejected += 1
        elif time_ms <= (erasures or {}).get(user_id, -1):
            result.erased += 1
        elif event.event_id in seen:
            result.duplicate += 1
        elif time_ms < newest_ms.get(user_id, time_ms) - allowed_lateness_ms:
            seen.add(event.event_id)
            result.late += 1
        else:
            seen.add(event.event_id)
            newest_ms[user_id] = max(newest_ms.get(user_id, time_ms), time_ms)
            result.applied += 1
            name = event.event_type if event.event_type in EVENT_TYPES else "other"
            for tally in (result.users.setdefault(user_id, Tally()), result.items.setdefault(event.item_id, Tally())):
                tally.times_ms.setdefault(name, []).append(time_ms)
            result.users[user_id].events.append((time_ms, event.item_id, event.event_type))
    return result
