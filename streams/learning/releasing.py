"""From a passed round to a record on `models.releases`: the Postgres row decides, the rest follows and is repaired."""

from collections.abc import Mapping
from typing import Any

import msgspec

from learners.releases.registry import Registry, ReleaseRecord
from learners.rounds.round import RoundResult
from streams.events import Release
from streams.learning.position import PendingRound

ROUND = "round"


class Releasing:
    """Publish each round once, whatever was interrupted. All calls block: make them from one dedicated thread.

    Args:
        registry: The truth.
        keep_versions: Newest versions whose directories stay on disk.
    """

    def __init__(self, registry: Registry, *, keep_versions: int = 5) -> None:
        self._registry, self._keep_versions = registry, keep_versions

    def repair(self) -> ReleaseRecord | None:
        """Bring pointer and directories in line with the table; returns the row that rules."""
        return self._registry.repair().current

    def current(self) -> ReleaseRecord | None:
        """The row that rules, whoever wrote it."""
        return self._registry.current()

    def outbox(self) -> list[ReleaseRecord]:
        """Rows whose record Kafka has not acknowledged, oldest first."""
        return self._registry.unpublished()

    def sent(self, record: ReleaseRecord) -> None:
        """Kafka has acknowledged the record of this row."""
        self._registry.mark_published(record.sequence)

    def release(self, pending: PendingRound, result: RoundResult) -> ReleaseRecord:
        """Write the row of a passed round, unless it is there.

        Args:
            pending: The round.
            result: With its candidate.

        Raises:
            LearnerError: If the candidate is damaged or stale, or disk or Postgres refuse.
        """
        for record in self._registry.list():
            if record.verdict.get(ROUND, {}).get("key") == pending.key:
                return record
        if result.candidate is None:
            raise ValueError(f"round {pending.key} has no candidate to release")
        record = self._registry.publish(
            result.candidate,
            offsets={str(partition): offset for partition, offset in sorted(pending.offsets.items())},
            metrics=result.metrics,
            verdict={**result.verdict, ROUND: round_facts(pending)},
            triggered_at_ms=pending.triggered_at_ms,
        )
        self._registry.prune(keep=self._keep_versions)
        return record

    def roll_back(self, evidence: Mapping[str, Any], *, decided_at_ms: int) -> ReleaseRecord:
        """Write the row that returns to the version that the evidence names, unless that one rules already."""
        current = self._registry.current()
        if current is not None and current.version == evidence["version"]:
            return current
        return self._registry.rollback(to_version=evidence["version"], reason=evidence, decided_at_ms=decided_at_ms)


def round_facts(pending: PendingRound) -> dict[str, Any]:
    """What a release says about its round."""
    return {
        "key": pending.key,
        "number": pending.number,
        "trigger": pending.trigger,
        "interactions": pending.interactions,
    }


def wire(record: ReleaseRecord) -> tuple[bytes, bytes]:
    """Key and value of a row's record on `models.releases`."""
    release = Release(
        model=record.model,
        version=record.version,
        sequence=record.sequence,
        kind=record.kind,
        uri=record.uri,
        sha256=record.sha256,
        parent=record.parent,
        offsets=dict(record.offsets),
        metrics=dict(record.metrics),
        verdict=dict(record.verdict),
        triggered_at_ms=record.triggered_at_ms,
        released_at_ms=record.released_at_ms,
    )
    return record.model.encode(), msgspec.json.encode(release)
