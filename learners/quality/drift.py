"""Drift: one ADWIN per figure, deaf to NaN, silent while it cools down."""

import math
import pickle
from base64 import b64decode, b64encode
from dataclasses import dataclass
from statistics import pstdev
from typing import Any, Literal

from river.drift import ADWIN

_NEWEST_BLOCKS = 10

Worse = Literal["lower", "higher", "either"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """How sensitive the detectors are.

    Args:
        delta: ADWIN's confidence that raises an alarm, in (0, 1).
        warning_delta: A laxer one that warns, in (`delta`, 1).
        cooldown: Values of the same figure after an alarm (or warning) before the next may be raised.
        report_every: Values between two reports of a figure's mean; at least 1.
        block: Values that are averaged before a detector sees them; about as many as come in one visit.
        warm_up: Blocks that set the unit of a figure before it is watched; at least 2.
    """

    delta: float = 0.002
    warning_delta: float = 0.05
    cooldown: int = 2_000
    report_every: int = 1_000
    block: int = 16
    warm_up: int = 30


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """What a detector has to say.

    Args:
        metric: The figure, e.g. `hit_rate_10:mixture` or `feature:event_gap_log_s`.
        level: `value` (a report), `warning` or `alarm`.
        value: The figure's mean now: of the newest blocks, for reports since it last changed.
        baseline: Its mean before the change; None for reports.
        event_time_ms: Of the interaction.
        interactions: Interactions scored so far.
    """

    metric: str
    level: Literal["value", "warning", "alarm"]
    value: float
    baseline: float | None
    event_time_ms: int
    interactions: int


class Detector:
    """Two ADWINs on one figure: a lax one that warns and a strict one that alarms.

    ADWIN assumes independent values in [0, 1]. Interactions come in visits and are anything but independent, so what it
    sees are means of blocks, in units of their own standard deviation.

    Source: Bifet & Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007.
    """

    def __init__(self, config: DriftConfig) -> None:
        self.config = config
        self.strict, self.lax = _adwin(config.delta), _adwin(config.warning_delta)
        self.seen = 0
        self.not_finite = 0
        self._block: list[float] = []
        self._warming: list[float] = []
        self._newest: list[float] = []  # means of the newest blocks
        self._unit = 0.0
        self._quiet_until = {"warning": 0, "alarm": 0}

    @property
    def mean(self) -> float:
        """The figure's mean since it last changed, or while warming up."""
        if self._unit:
            return float(self.strict.estimation * self._unit)
        values = [*self._warming, *self._block]
        return sum(values) / len(values) if values else 0.0

    def update(self, value: float, worse: Worse = "either") -> tuple[Literal["warning", "alarm"], float, float] | None:
        """Take one value; returns level, mean before and mean now when it changed for the worse."""
        if not math.isfinite(value):  # one NaN would silence ADWIN for ever
            self.not_finite += 1
            return None
        self.seen += 1
        self._block.append(value)
        if len(self._block) < self.config.block:
            return None
        mean = sum(self._block) / len(self._block)
        self._block.clear()
        if not self._unit:
            self._warm_up(mean)
            return None
        self._newest = [*self._newest[1 - _NEWEST_BLOCKS :], mean]
        before, before_lax = self.strict.estimation * self._unit, self.lax.estimation * self._unit
        self.strict.update(mean / self._unit)
        self.lax.update(mean / self._unit)
        now = sum(self._newest) / len(self._newest)  # ADWIN's own mean still holds much of what was before
        if self.strict.drift_detected and is_worse(before, now, worse) and self._speaks("alarm"):
            self._quiet_until["warning"] = self._quiet_until["alarm"]
            return "alarm", before, now
        if self.lax.drift_detected and is_worse(before_lax, now, worse) and self._speaks("warning"):
            return "warning", before_lax, now
        return None

    def get_state(self) -> dict[str, Any]:
        """Return everything; ADWIN as a pickle of river's, valid within one minor version of it."""
        return {
            "strict": b64encode(pickle.dumps(self.strict)).decode(),
            "lax": b64encode(pickle.dumps(self.lax)).decode(),
            "seen": self.seen,
            "not_finite": self.not_finite,
            "block": list(self._block),
            "warming": list(self._warming),
            "newest": list(self._newest),
            "unit": self._unit,
            "quiet_until": dict(self._quiet_until),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.strict = pickle.loads(b64decode(state["strict"]))  # noqa: S301 - our own checkpoint, beside our own weights
        self.lax = pickle.loads(b64decode(state["lax"]))  # noqa: S301 - the same
        self.seen, self.not_finite, self._unit = state["seen"], state["not_finite"], state["unit"]
        self._block, self._warming = list(state["block"]), list(state["warming"])
        self._newest = list(state["newest"])
        self._quiet_until = dict(state["quiet_until"])

    def _warm_up(self, mean: float) -> None:
        self._warming.append(mean)
        if len(self._warming) == self.config.warm_up:
            spread = pstdev(self._warming)
            self._unit = max(spread, 1e-3 * abs(mean), 1e-6)
            for earlier in self._warming:
                self.strict.update(earlier / self._unit)
                self.lax.update(earlier / self._unit)
            self._warming.clear()

    def _speaks(self, level: str) -> bool:
        if self.seen < self._quiet_until[level]:
            return False
        self._quiet_until[level] = self.seen + self.config.cooldown
        return True


class DriftMonitor:
    """Detectors by name, created when their figure first appears.

    Args:
        config: See `DriftConfig`.
        most: Detectors kept at most; further figures are not watched, only counted.

    >>> monitor = DriftMonitor(DriftConfig(report_every=10_000))
    >>> for step in range(2_000):
    ...     _ = monitor.update("loss", step % 3 / 3 + (step > 1_000), event_time_ms=step, interactions=step)
    >>> [event.level for event in monitor.drain()][-1]
    'alarm'
    """

    def __init__(self, config: DriftConfig, *, most: int = 256) -> None:
        self.config, self.most = config, most
        self.unwatched = 0
        self._detectors: dict[str, Detector] = {}
        self._ready: list[DriftEvent] = []

    @property
    def not_finite(self) -> int:
        """Values that were NaN or infinite and therefore ignored."""
        return sum(detector.not_finite for detector in self._detectors.values())

    def update(
        self, metric: str, value: float, *, event_time_ms: int, interactions: int, worse: Worse = "either"
    ) -> DriftEvent | None:
        """Take one value; returns the warning or alarm it raised, which `drain` hands out too.

        Args:
            metric: The figure.
            value: Ignored, and counted, unless finite.
            event_time_ms: Of the interaction.
            interactions: Scored so far.
            worse: Which way is drift; getting better is none.
        """
        detector = self._detectors.get(metric)
        if detector is None:
            if len(self._detectors) >= self.most:
                self.unwatched += 1
                return None
            detector = self._detectors[metric] = Detector(self.config)
        change = detector.update(value, worse)
        if change is not None:
            level, before, now = change
            event = DriftEvent(metric, level, now, before, event_time_ms, interactions)
            self._ready.append(event)
            return event
        if detector.seen and detector.seen % self.config.report_every == 0:
            mean = detector.mean
            self._ready.append(DriftEvent(metric, "value", mean, None, event_time_ms, interactions))
        return None

    def drain(self) -> list[DriftEvent]:
        """Return, once, what happened since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def reset(self, prefix: str) -> None:
        """Begin anew on figures whose name starts so: what they measure was replaced, which is no drift."""
        for name in [name for name in self._detectors if name.startswith(prefix)]:
            del self._detectors[name]

    def get_state(self) -> dict[str, Any]:
        """Return everything, what is not yet drained included."""
        return {
            "detectors": {name: detector.get_state() for name, detector in self._detectors.items()},
            "ready": [[getattr(event, name) for name in DriftEvent.__slots__] for event in self._ready],
            "unwatched": self.unwatched,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self._detectors = {}
        for name, its_state in state["detectors"].items():
            self._detectors[name] = Detector(self.config)
            self._detectors[name].set_state(its_state)
        self._ready = [DriftEvent(*values) for values in state["ready"]]
        self.unwatched = state["unwatched"]


def _adwin(delta: float) -> ADWIN:
    return ADWIN(delta=delta, clock=1, min_window_length=5, grace_period=10)


def is_worse(before: float, now: float, worse: Worse) -> bool:
    """Say whether a mean moved the way that counts as drift.

    >>> is_worse(0.2, 0.3, "lower"), is_worse(0.2, 0.3, "either")
    (False, True)
    """
    return worse == "either" or (now < before) == (worse == "lower")
