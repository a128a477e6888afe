"""How the learner stands, for `/progress` and Prometheus; kept on the event loop, so that asking blocks nobody."""

import time
from collections.abc import Mapping
from typing import Any

import psutil

from streams.learning import gauges
from streams.learning.findings import Findings
from streams.learning.position import PendingRound
from streams.topics import INTERACTIONS_VALIDATED

ROUND_OUTCOMES = ("triggered", "passed", "refused", "empty", "failed")


class Progress:
    """The newest of everything worth knowing."""

    def __init__(self) -> None:
        self.found = Findings()
        self.lag = 0
        self.waiting = 0  # records taken from Kafka, not yet learned
        self.processed = 0  # batches handled, of any topic: what the watchdog looks at
        self.sequence = 0
        self.round: PendingRound | None = None
        self.round_steps = (0, 0)
        self.updates = self.update_bytes = self.live_bytes = 0
        self.announcements_waiting = 0
        self.checkpoints = 0
        self.checkpoint_bytes = 0
        self.checkpoint_s = 0.0
        self.pictures: Mapping[str, int] = {}  # waiting, encoded, and those that cannot be used, by reason
        self.knowledge: Mapping[str, int] = {}
        self.start: Mapping[str, Any] | None = None  # what a first round began from, and why
        self.waits_for: str | None = "the start"
        self._checkpoint_at = time.monotonic()
        self._process = psutil.Process()

    def note(self, found: Findings, *, sequence: int, pending: PendingRound | None) -> None:
        """Take in what the learner found, which release record it follows, and the round that runs."""
        self.found, self.sequence, self.round = found, sequence, pending
        for value in found.metrics:
            gauges.QUALITY.labels(value.metric, value.expert).set(value.value)
            gauges.QUALITY_TOTAL.labels(value.metric, value.expert).set(value.total_value)
        for event in found.drifts:
            if event.level != "value":
                gauges.DRIFTS.labels(event.metric, event.level).inc()
        for outcome in ("observed", "repeated", "erased", "rejected", "truncated"):
            gauges.INTERACTIONS.labels(outcome).set(found.counts.get(outcome, 0))
        for outcome in ROUND_OUTCOMES:
            gauges.ROUNDS.labels(outcome).set(found.counts.get(f"rounds_{outcome}", 0))
        gauges.ROLLBACKS.set(found.counts.get("rollbacks", 0))
        gauges.ADOPTED_VERSION.set(found.model_version)

    def checkpointed(self, *, size_bytes: int, took_s: float) -> None:
        """A checkpoint is durable."""
        self.checkpoints += 1
        self.checkpoint_bytes, self.checkpoint_s = size_bytes, took_s
        self._checkpoint_at = time.monotonic()
        gauges.CHECKPOINT_SECONDS.observe(took_s)

    @property
    def checkpoint_age_s(self) -> float:
        """Seconds since the last checkpoint, or since the start."""
        return time.monotonic() - self._checkpoint_at

    def gauge(self) -> None:
        """Bring the gauges that change by themselves up to date."""
        gauges.LAG.set(self.lag)
        gauges.CHECKPOINT_AGE.set(self.checkpoint_age_s)
        gauges.ROUND_RUNNING.set(int(self.round is not None))
        gauges.UPDATES.set(self.updates)
        gauges.UPDATE_BYTES.set(self.update_bytes)
        gauges.WAITING.set(self.announcements_waiting)
        for outcome, count in self.pictures.items():
            gauges.PICTURES.labels(outcome).set(count)

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        counts = self.found.counts
        interactions = {
            name: counts.get(name, 0) for name in ("observed", "repeated", "erased", "rejected", "truncated")
        }
        rounds = {outcome: counts.get(f"rounds_{outcome}", 0) for outcome in ROUND_OUTCOMES}
        return {
            "interactions": interactions["observed"] + interactions["erased"] + interactions["rejected"],
            "interactions_by_outcome": interactions,
            "learned": self.found.learned,
            "next_offsets": self.found.offsets.get(INTERACTIONS_VALIDATED, {}),
            "lag_interactions": self.lag,
            "rounds": rounds,
            "rounds_pending": int(self.found.trigger is not None),  # due, not begun
            "round_running": self.round is not None,
            "round_steps": self.round_steps,
            "since_last_trigger": self.found.since_last_trigger,
            "model_version": self.found.model_version,
            "sequence": self.sequence,
            "releases": rounds["passed"],
            "rollbacks": counts.get("rollbacks", 0),
            "experts_updates": {"count": self.updates, "bytes": self.update_bytes, "live_bytes": self.live_bytes},
            "announcements_waiting": self.announcements_waiting,
            "checkpoint": {
                "count": self.checkpoints,
                "age_s": round(self.checkpoint_age_s, 3),
                "bytes": self.checkpoint_bytes,
                "took_s": round(self.checkpoint_s, 3),
            },
            "knowledge": dict(self.knowledge),
            "pictures": dict(self.pictures),
            "start": self.start,
            "rss_bytes": self._process.memory_info().rss,
            "waits_for": self.waits_for,
        }
