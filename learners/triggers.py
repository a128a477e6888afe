"""When a round is due: enough interactions, enough time, or drift."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerConfig:
    """What makes a round due.

    Args:
        interactions: This many new target interactions; at least 1.
        interval_ms: Or this long since the last round, by the clock that `due` is given, if anything is new; None:
            never.
        on_drift: Or an alarm.
        drift_interactions: New interactions that a round for drift needs, so that it has something to learn from.
    """

    interactions: int = 8_000
    interval_ms: int | None = None
    on_drift: bool = True
    drift_interactions: int = 4_000


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a round is due.

    Args:
        kind: `count`, `time` or `drift`.
        interactions: New target interactions since the last round.
        at_ms: By the clock that `due` was given.
        detail: The metric that drifted, for `drift`.
    """

    kind: Literal["count", "time", "drift"]
    interactions: int
    at_ms: int
    detail: str = ""


class Triggers:
    """Count what is new since the last round and say when the next is due.

    Args:
        config: See `TriggerConfig`.

    >>> triggers = Triggers(TriggerConfig(interactions=2))
    >>> triggers.due(0)
    >>> triggers.add(); triggers.add()
    >>> triggers.due(5).kind
    'count'
    >>> triggers.reset(5); triggers.due(6)
    """

    def __init__(self, config: TriggerConfig) -> None:
        self.config = config
        self.new = 0
        self._last_ms: int | None = None
        self._drifted: str | None = None

    def add(self) -> None:
        """Count one target interaction."""
        self.new += 1

    def alarm(self, metric: str) -> None:
        """Remember that something drifted."""
        self._drifted = metric

    def due(self, now_ms: int) -> Trigger | None:
        """Return why a round is due at `now_ms`, or None."""
        if self._last_ms is None:
            self._last_ms = now_ms
        if self.new >= self.config.interactions:
            return Trigger("count", self.new, now_ms)
        if self.config.on_drift and self._drifted is not None and self.new >= self.config.drift_interactions:
            return Trigger("drift", self.new, now_ms, self._drifted)
        waited_ms = now_ms - self._last_ms
        if self.config.interval_ms is not None and self.new and waited_ms >= self.config.interval_ms:
            return Trigger("time", self.new, now_ms)
        return None

    def reset(self, now_ms: int) -> None:
        """Begin to count anew: a round took what was new."""
        self.new, self._last_ms, self._drifted = 0, now_ms, None

    def get_state(self) -> dict[str, Any]:
        """Return everything but the clock: time spent not running is not waited."""
        return {"new": self.new, "drifted": self._drifted}

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.new, self._drifted, self._last_ms = state["new"], state["drifted"], None
