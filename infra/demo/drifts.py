"""Planted drift: what the simulated shop changes and when, and how alarms are held against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

Kind = Literal["taste_shift", "new_items", "seasonal_swing"]

# Share of the simulated span at which a drift starts, and how much of the span it takes to unfold.
PLAN: tuple[tuple[Kind, float, float, str], ...] = (
    ("taste_shift", 0.40, 0.0, "nine in ten visitors turn to other departments and another style at once"),
    ("new_items", 0.62, 0.0, "a department that nobody has seen before opens, and visitors flock to it"),
    ("seasonal_swing", 0.80, 0.04, "winter ends: what sold for its season stops selling, summer things start"),
)


@dataclass(frozen=True, kw_only=True)
class PlantedDrift:
    """A change of the shop's world that the simulator makes, and so the truth that detection is held against.

    Args:
        kind: What changes.
        start_ms: First event time at which it holds.
        end_ms: Event time at which it is complete; `start_ms` if it is sudden.
        story: One clause for the report.
    """

    kind: Kind
    start_ms: int
    end_ms: int
    story: str

    def progress(self, at_ms: int) -> float:
        """How much of the change has happened: 0 before, 1 after, a half cosine between.

        >>> swing = PlantedDrift(kind="seasonal_swing", start_ms=100, end_ms=200, story="")
        >>> [round(swing.progress(at), 2) for at in (50, 100, 150, 200, 900)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        if at_ms < self.start_ms:
            return 0.0
        if at_ms >= self.end_ms:
            return 1.0
        return (1 - cos(pi * (at_ms - self.start_ms) / (self.end_ms - self.start_ms))) / 2


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An alarm as `drift.metrics` carried it, with the moment at which the demo read it.

    Args:
        metric: E.g. "hit_rate_10:mixture".
        event_time_ms: Event time of the interaction that raised it.
        interactions: Interactions the learner had scored.
        value: The metric's mean after the change.
        baseline: The metric's mean before it, if the detector gave one.
        wall_s: Seconds since the traffic began.
    """

    metric: str
    event_time_ms: int
    interactions: int
    value: float
    baseline: float | None
    wall_s: float

    @property
    def is_gain(self) -> bool:
        """True if quality changed for the better: learning shows as drift too, and is none that was planted."""
        if self.baseline is None or self.metric.startswith("feature:"):
            return False
        return self.value < self.baseline if "loss" in self.metric else self.value > self.baseline


@dataclass(frozen=True, kw_only=True)
class Catch:
    """A planted drift beside the alarms raised in its window.

    Args:
        planted: The truth.
        until_ms: End of the window in which an alarm counts as its own.
        alarms: Alarms in the window, oldest first, gains left out.
        started_interactions: Interactions the learner had scored when the drift began; None if that is not known.
        started_wall_s: Seconds since the traffic began when the drift was planted; None if the traffic never got there.
    """

    planted: PlantedDrift
    until_ms: int
    alarms: tuple[Alarm, ...]
    started_interactions: int | None
    started_wall_s: float | None

    @property
    def is_planted(self) -> bool:
        """False if the demo ended before this drift was due."""
        return self.started_wall_s is not None

    @property
    def is_caught(self) -> bool:
        """True if any alarm fell into the window."""
        return bool(self.alarms)

    @property
    def delay_ms(self) -> int | None:
        """Simulated time from the drift to the first alarm."""
        return self.alarms[0].event_time_ms - self.planted.start_ms if self.alarms else None

    @property
    def delay_interactions(self) -> int | None:
        """Interactions scored from the drift to the first alarm."""
        if not self.alarms or self.started_interactions is None:
            return None
        return self.alarms[0].interactions - self.started_interactions

    @property
    def delay_wall_s(self) -> float | None:
        """Seconds from the drift to the moment at which a plain consumer had read the alarm."""
        if not self.alarms or self.started_wall_s is None:
            return None
        return self.alarms[0].wall_s - self.started_wall_s


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Detected drift held against planted drift.

    Args:
        catches: One per planted drift, in order.
        false_alarms: Alarms outside every window that no planted drift explains.
        gains: Alarms because quality rose, anywhere.
    """

    catches: tuple[Catch, ...]
    false_alarms: tuple[Alarm, ...]
    gains: tuple[Alarm, ...]

    @property
    def caught(self) -> int:
        """Number of planted drifts with an alarm in their window."""
        return sum(catch.is_caught for catch in self.catches)


def plan_drifts(*, start_ms: int, span_ms: int) -> tuple[PlantedDrift, ...]:
    """Spread the planted drifts over a simulated span.

    Args:
        start_ms: Event time at which the traffic begins.
        span_ms: Simulated length of the traffic.

    >>> [(drift.kind, drift.start_ms) for drift in plan_drifts(start_ms=1_000, span_ms=100)]
    [('taste_shift', 1040), ('new_items', 1062), ('seasonal_swing', 1080)]
    """
    return tuple(
        PlantedDrift(
            kind=kind,
            start_ms=start_ms + round(share * span_ms),
            end_ms=start_ms + round((share + length) * span_ms),
            story=story,
        )
        for kind, share, length, story in PLAN
    )


def match_drifts(
    planted: Sequence[PlantedDrift],
    alarms: Sequence[Alarm],
    *,
    window_ms: int,
    started: dict[Kind, tuple[int, float]] | None = None,
) -> Verdict:
    """Give every alarm to the planted drift in whose window it falls.

    A window begins with its drift and lasts `window_ms`, but ends where the next drift begins: from there on an alarm
    may have either cause, and the later one gets it.

    Args:
        planted: The truth, oldest first.
        alarms: Alarms in any order.
        window_ms: Longest delay, in event time, at which an alarm still counts.
        started: Per kind, the interactions scored and the seconds of traffic when the drift was planted.

    >>> shift = PlantedDrift(kind="taste_shift", start_ms=100, end_ms=100, story="")
    >>> def alarm(at): return Alarm(metric="m", event_time_ms=at, interactions=at, value=0, baseline=1, wall_s=0)
    >>> verdict = match_drifts([shift], [alarm(130), alarm(110), alarm(99), alarm(150)], window_ms=50)
    >>> verdict.catches[0].delay_ms, [alarm.event_time_ms for alarm in verdict.false_alarms]
    (10, [99, 150])
    """
    ordered = sorted(alarms, key=lambda alarm: (alarm.event_time_ms, alarm.interactions))
    losses = [alarm for alarm in ordered if not alarm.is_gain]
    ends = [drift.start_ms for drift in planted[1:]]
    explained: set[int] = set()
    catches: list[Catch] = []
    for index, drift in enumerate(planted):
        until_ms = min([drift.start_ms + window_ms, *ends[index : index + 1]])
        inside = [i for i, alarm in enumerate(losses) if drift.start_ms <= alarm.event_time_ms < until_ms]
        explained.update(inside)
        interactions, wall_s = (started or {}).get(drift.kind, (None, None))
        catches.append(
            Catch(
                planted=drift,
                until_ms=until_ms,
                alarms=tuple(losses[i] for i in inside),
                started_interactions=interactions,
                started_wall_s=wall_s,
            )
        )
    return Verdict(
        catches=tuple(catches),
        false_alarms=tuple(alarm for i, alarm in enumerate(losses) if i not in explained),
        gains=tuple(alarm for alarm in ordered if alarm.is_gain),
    )
