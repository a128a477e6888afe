"""A plain recount of a log: what the features of users and items must be, worked out the slow and obvious way.

It shares no code with `feature_store`; where the two agree, the pipeline neither lost, repeated nor misplaced an
event. Everything is kept until the end and summed directly from the definition: a decayed counter at time T is the sum
over its events of `2 ** (-(T - t) / half_life)`.
"""

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

EVENT_TYPES = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
NOT_IN_HISTORY = ("search", "impression")  # shown or asked for, not done
HALF_LIVES_MS = {"1h": 3_600_000, "1d": 86_400_000, "14d": 14 * 86_400_000}
HISTORY_LENGTH = 50
RELATIVE_TOLERANCE = 1e-9
SMALLEST_NORMAL = 1e-290  # below, a double has too few bits left for any relative tolerance

USER_FEATURES = [
    *(f"user_counters:{name}_count" for name in EVENT_TYPES),
    *(f"user_counters:{name}_{half_life}" for name in EVENT_TYPES for half_life in HALF_LIVES_MS),
    "user_counters:last_event_ms",
    "user_interactions:item_ids",
    "user_interactions:times_ms",
    "user_interactions:event_types",
]
ITEM_FEATURES = [
    *(f"item_counters:{name}_count" for name in EVENT_TYPES),
    *(f"item_counters:{name}_{half_life}" for name in EVENT_TYPES for half_life in HALF_LIVES_MS),
    "item_counters:last_event_ms",
]


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
    history_length: int = HISTORY_LENGTH

    def counts(self) -> dict[str, int]:
        """Lifetime counts by event type."""
        return {name: len(times) for name, times in self.times_ms.items()}

    def last_event_ms(self) -> int:
        """When the newest event happened."""
        return max(max(times) for times in self.times_ms.values())

    def history(self) -> list[tuple[str, int, str]]:
        """The last events as (item_id, time, type), by event time and then arrival, oldest first."""
        ordered = sorted(self.events, key=lambda event: event[0])  # stable: equal times stay in order of arrival
        return [(item_id, time_ms, name) for time_ms, item_id, name in ordered[-self.history_length :]]

    def decayed(self, event_type: str, half_life: str, *, at_ms: int) -> float:
        """The counter of one event type and half-life at a time."""
        half_life_ms = HALF_LIVES_MS[half_life]
        times = self.times_ms.get(event_type, [])
        return math.fsum(2.0 ** (-(at_ms - time_ms) / half_life_ms) for time_ms in times)

    def features(self) -> dict[str, Any]:
        """What Feast's on-demand views must say, by the names of their features."""
        at_ms = self.last_event_ms()
        history = self.history()
        return {
            **{f"{name}_count": len(self.times_ms.get(name, ())) for name in EVENT_TYPES},
            **{
                f"{name}_{half_life}": self.decayed(name, half_life, at_ms=at_ms)
                for name in EVENT_TYPES
                for half_life in HALF_LIVES_MS
            },
            "last_event_ms": at_ms,
            "item_ids": [item_id for item_id, _, _ in history],
            "times_ms": [time_ms for _, time_ms, _ in history],
            "event_types": [name for _, _, name in history],
        }


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
    history_length: int = HISTORY_LENGTH,
) -> Recount:
    """Count a log as the promises say: each event_id once, late ones aside, erased people not at all.

    Args:
        events: In order of arrival.
        allowed_lateness_ms: An event older than its user's newest by more than this is late: in no state.
        rejected: event_ids that lie in the dead-letter topic.
        erasures: user_id -> time (ms) up to which the person's events are forgotten.
        history_length: Interactions kept per user.

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
            user = result.users.setdefault(user_id, Tally(history_length=history_length))
            for tally in (user, result.items.setdefault(event.item_id, Tally())):
                tally.times_ms.setdefault(name, []).append(time_ms)
            if name not in NOT_IN_HISTORY:
                user.events.append((time_ms, event.item_id, name))
    return result


class FeatureReader(Protocol):
    """Feast's public read (`feast.FeatureStore`)."""

    def get_online_features(self, features: list[str], entity_rows: list[dict[str, Any]]) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the features in Feast compare with the recount; `differences` are sentences, empty when all is well."""

    users: int
    items: int
    events: int
    worst_relative_error: float
    differences: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return not self.differences


def compare(truth: Recount, store: FeatureReader, *, sample: int = 200, seed: int = 0) -> Comparison:
    """Hold Feast's public answers for random users and items against the recount.

    Args:
        truth: The recount of everything that was applied.
        store: Feast.
        sample: Users, and as many items, to draw; all where there are fewer.
        seed: Of the draw.
    """
    draw = random.Random(seed)
    differences: list[str] = []
    worst = 0.0
    drawn = []
    for kind, tallies, names in (("user", truth.users, USER_FEATURES), ("item", truth.items, ITEM_FEATURES)):
        ids = draw.sample(sorted(tallies), min(sample, len(tallies)))
        drawn.append(len(ids))
        for entity_id, served in _served(store, f"{kind}_id", ids, names).items():
            expected = tallies[entity_id].features()
            for name, value in served.items():
                worst = max(worst, _relative_error(value, expected[name]))
                if not _same(value, expected[name]):
                    differences.append(f"{kind} {entity_id}: {name} is {value!r}, the recount says {expected[name]!r}")
    return Comparison(
        users=drawn[0],
        items=drawn[1],
        events=truth.applied,
        worst_relative_error=worst,
        differences=tuple(differences),
    )


def _served(store: FeatureReader, key: str, ids: Sequence[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """Feature values by entity and short name."""
    if not ids:
        return {}
    answer = store.get_online_features(features=names, entity_rows=[{key: entity_id} for entity_id in ids]).to_dict()
    short = [name.partition(":")[2] for name in names]
    return {entity_id: {name: answer[name][row] for name in short} for row, entity_id in enumerate(answer[key])}


def _relative_error(value: Any, expected: Any) -> float:
    if not isinstance(expected, float) or not isinstance(value, float) or abs(expected) < SMALLEST_NORMAL:
        return 0.0
    return abs(value - expected) / abs(expected)


def _same(value: Any, expected: Any) -> bool:
    """Identical, but for rounding of decayed counters."""
    if isinstance(expected, float):
        return isinstance(value, float) and math.isclose(
            value, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=SMALLEST_NORMAL
        )
    if isinstance(expected, list):
        return list(value if value is not None else ()) == expected
    return bool(value == expected)
