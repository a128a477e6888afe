"""What the learner has to say between two looks at it, and its records on `quality.metrics` and `drift.metrics`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from learners.items.gallery import Wanted
from learners.quality.drift import DriftEvent
from learners.quality.metrics import MetricValue
from learners.rounds.triggers import Trigger
from streams.events import Drift, Interaction, Metric
from streams.learning.announcements import Record, record_id

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What happened since the last look, and how things stand; nothing here changes afterwards.

    Args:
        metrics: Figures of completed windows.
        drifts: What the detectors reported.
        metric_records: The same for Kafka.
        drift_records: The same for Kafka.
        trigger: Why a round is due, if one is.
        roll_back: Why the predecessor should serve again, if it should.
        counts: Interactions and rounds by outcome.
        offsets: Topic -> partition -> next offset to read.
        since_last_trigger: Target interactions since the last round was triggered.
        learned: Target interactions scored and learned.
        model_version: The release that scores; 0: none.
        texts: Of items newly listed, to be encoded.
        pictures: Theirs, to be looked at; none where the model is told of none.
        forgotten: Who asked to be forgotten, and up to when (ms), since the last look.
        learned_from: The interactions that were learned since the last look.
    """

    metrics: Sequence[MetricValue] = ()
    drifts: Sequence[DriftEvent] = ()
    metric_records: Sequence[Record] = ()
    drift_records: Sequence[Record] = ()
    trigger: Trigger | None = None
    roll_back: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    since_last_trigger: int = 0
    learned: int = 0
    model_version: int = 0
    texts: Sequence[str] = ()
    pictures: Sequence[Wanted] = ()
    forgotten: Mapping[str, int] = field(default_factory=dict)
    learned_from: Sequence[Interaction] = ()


def metric_record(lineage: str, value: MetricValue) -> Record:
    """Key and value on `quality.metrics`; the same figure has the same id after a crash."""
    record = Metric(
        metric_id=record_id(lineage, value.metric, value.expert, value.interactions),
        metric=value.metric,
        expert=value.expert,
        value=value.value,
        count=value.count,
        total_value=value.total_value,
        total_count=value.total_count,
        model_version=value.model_version,
        event_time_ms=value.event_time_ms,
        interactions=value.interactions,
    )
    return value.metric.encode(), _encode(record)


def drift_record(lineage: str, event: DriftEvent) -> Record:
    """Key and value on `drift.metrics`."""
    record = Drift(
        drift_id=record_id(lineage, event.metric, event.level, event.interactions),
        metric=event.metric,
        level=event.level,
        value=event.value,
        baseline=event.baseline,
        event_time_ms=event.event_time_ms,
        interactions=event.interactions,
    )
    return event.metric.encode(), _encode(record)
