"""An independent witness: reads what lies in Kafka with another client (kafka-python) and counts it.

It shares no code with the pipeline but the names of the topics, so that its figures can be held against the ledger's:
how many events each partition holds, how many interactions came of them, how fresh the rankings were, which releases
were published and first served when, what the last quality totals were and which drifts were found.
"""

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from kafka import KafkaConsumer, TopicPartition

from streams.topics import (
    CLICKSTREAM_EVENTS,
    DLQ_SUFFIX,
    DRIFT_METRICS,
    INTERACTIONS_VALIDATED,
    MODELS_RELEASES,
    QUALITY_METRICS,
    RECOMMENDATIONS_RANKINGS,
)

AUDITED = (
    CLICKSTREAM_EVENTS,
    CLICKSTREAM_EVENTS + DLQ_SUFFIX,
    INTERACTIONS_VALIDATED,
    RECOMMENDATIONS_RANKINGS,
    QUALITY_METRICS,
    DRIFT_METRICS,
    MODELS_RELEASES,
)
MOCK_API_VERSION = (
    2,
    3,
)  # the embedded broker's ApiVersions reply is older than kafka-python 3 can decode (PITFALLS 3)
POLL_MS = 200
POLL_RECORDS = 5_000


@dataclass(slots=True)
class Counted:
    """What one partition held: `missing` are offsets that retention took before they were read."""

    first_offset: int = -1
    next_offset: int = -1
    records: int = 0
    missing: int = 0

    def add(self, offset: int) -> None:
        if self.records == 0:
            self.first_offset = offset
            if self.next_offset >= 0:
                self.missing += offset - self.next_offset
        else:
            self.missing += offset - self.next_offset
        self.next_offset = offset + 1
        self.records += 1


@dataclass(slots=True)
class Findings:
    """What the audit has read so far. Times are milliseconds since 1970."""

    partitions: dict[tuple[str, int], Counted] = field(default_factory=dict)
    interactions: int = 0  # distinct, by source partition and offset
    repeated_interactions: int = 0
    late_interactions: int = 0
    ranking_ages_ms: "array[float]" = field(default_factory=lambda: array("d"))
    first_served_ms: dict[int, int] = field(default_factory=dict)  # model version -> first ranking that names it
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)  # by sequence
    totals: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)  # expert, metric -> count, value
    drifts: dict[str, dict[str, Any]] = field(default_factory=dict)  # warnings and alarms by drift_id
    dead_letters: Counter[str] = field(default_factory=Counter)  # by reason
    dead_event_ids: set[str] = field(default_factory=set)
    dead_sources: set[tuple[int, int]] = field(default_factory=set)  # partition and offset of what was rejected

    def records(self, topic: str) -> int:
        """Records counted in all partitions of `topic`."""
        return sum(counted.records for (name, _), counted in self.partitions.items() if name == topic)

    def missing(self, topic: str) -> int:
        """Records of `topic` that were gone before they could be read."""
        return sum(counted.missing for (name, _), counted in self.partitions.items() if name == topic)


class _Interaction(msgspec.Struct, gc=False):
    partition: int
    offset: int
    late: bool = False


class _Ranking(msgspec.Struct, gc=False):
    model_version: int
    request_id: str | None = None
    appended_watermark_ms: int | None = None


class _DeadEvent(msgspec.Struct, gc=False):
    event_id: str | None = None


class Audit:
    """Read the audited topics on a thread of its own until told to stop, then to the end as it is at that moment.

    A context: leaving it before `stop` abandons the reading.

    Args:
        options: Arguments of kafka-python's consumer: `bootstrap_servers`, security, `api_version`.
        start: First offset to read by (topic, partition); the beginning where it says nothing.
    """

    def __init__(
        self,
        *,
        options: Mapping[str, Any],
        start: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self.findings = Findings()
        self._options = dict(options)
        self._start = dict(start or {})
        self._stopping, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._failure: Exception | None = None
        self._highest: dict[int, int] = {}
        self._handlers: dict[str, Callable[[Any], None]] = {
            CLICKSTREAM_EVENTS + DLQ_SUFFIX: self._on_dead_letter,
            INTERACTIONS_VALIDATED: self._on_interaction,
            RECOMMENDATIONS_RANKINGS: self._on_ranking,
            QUALITY_METRICS: self._on_metric,
            DRIFT_METRICS: self._on_drift,
            MODELS_RELEASES: self._on_release,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned.set()
        self._thread.join()

    def stop(self, *, timeout_s: float = 60.0) -> Findings:
        """Read to the end as it is now, and return what was found.

        Raises:
            TimeoutError: The end was not reached within `timeout_s`.
        """
        self._stopping.set()
        self._thread.join(timeout_s)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            message = f"the audit did not reach the end of its topics within {timeout_s:g} s"
            raise TimeoutError(message)
        return self.findings

    def _run(self) -> None:
        try:
            self._read()
        except Exception as failure:  # noqa: BLE001 - handed to the thread that calls stop()
            self._failure = failure

    def _read(self) -> None:
        consumer = open_consumer(self._options, AUDITED, start=self._start)
        try:
            for partition in consumer.assignment():
                key = partition.topic, partition.partition
                self.findings.partitions[key] = Counted(next_offset=self._start.get(key, -1))
            ends: dict[TopicPartition, int] | None = None
            while not self._abandoned.is_set() and (
                ends is None or any(consumer.position(partition) < end for partition, end in ends.items())
            ):
                if ends is None and self._stopping.is_set():
                    ends = consumer.end_offsets(list(consumer.assignment()))
                for records in consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).values():
                    self._take(records)
        finally:
            consumer.close()

    def _take(self, records: list[Any]) -> None:
        counted = self.findings.partitions[records[0].topic, records[0].partition]
        handle = self._handlers.get(records[0].topic)
        for record in records:
            counted.add(record.offset)
            if handle is not None:
                handle(record)

    def _on_interaction(self, record: Any) -> None:
        interaction = msgspec.json.decode(record.value, type=_Interaction)
        if interaction.offset <= self._highest.get(interaction.partition, -1):
            self.findings.repeated_interactions += 1
            return
        self._highest[interaction.partition] = interaction.offset
        self.findings.interactions += 1
        self.findings.late_interactions += interaction.late

    def _on_ranking(self, record: Any) -> None:
        ranking = msgspec.json.decode(record.value, type=_Ranking)
        self.findings.first_served_ms.setdefault(ranking.model_version, record.timestamp)
        if ranking.request_id is None and ranking.appended_watermark_ms is not None:
            self.findings.ranking_ages_ms.append(record.timestamp - ranking.appended_watermark_ms)

    def _on_metric(self, record: Any) -> None:
        metric = msgspec.json.decode(record.value)
        key = metric["expert"], metric["metric"]
        if metric["total_count"] >= self.findings.totals.get(key, (0, 0.0))[0]:
            self.findings.totals[key] = metric["total_count"], metric["total_value"]

    def _on_drift(self, record: Any) -> None:
        drift = msgspec.json.decode(record.value)
        if drift["level"] != "value":
            self.findings.drifts[drift["drift_id"]] = drift

    def _on_release(self, record: Any) -> None:
        if record.value is not None:
            release = msgspec.json.decode(record.value)
            self.findings.releases.setdefault(release["sequence"], release | {"appended_at_ms": record.timestamp})

    def _on_dead_letter(self, record: Any) -> None:
        headers = {name.rpartition("errors.")[2]: value.decode(errors="replace") for name, value in record.headers}
        source = int(headers["partition"]), int(headers["offset"])
        if source in self.findings.dead_sources:
            return
        self.findings.dead_sources.add(source)
        self.findings.dead_letters[headers["exception.message"]] += 1
        try:
            event = msgspec.json.decode(record.value or b"", type=_DeadEvent)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if event.event_id is not None:
            self.findings.dead_event_ids.add(event.event_id)


def open_consumer(
    options: Mapping[str, Any], topics: Iterable[str], *, start: Mapping[tuple[str, int], int] | None = None
) -> KafkaConsumer:
    """A kafka-python consumer of every partition of `topics`, without a group, at `start` or else at the beginning."""
    consumer = KafkaConsumer(
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_partition_fetch_bytes": 4 << 20,
            **options,
        }
    )
    partitions = [
        TopicPartition(topic, partition) for topic in topics for partition in sorted(_partitions(consumer, topic))
    ]
    consumer.assign(partitions)
    for partition in partitions:
        offset = (start or {}).get((partition.topic, partition.partition))
        if offset is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, offset)
    return consumer


def end_offsets(options: Mapping[str, Any], topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """The offset after the last record, by (topic, partition)."""
    consumer = open_consumer(options, topics)
    try:
        ends = consumer.end_offsets(list(consumer.assignment()))
    finally:
        consumer.close()
    return {(partition.topic, partition.partition): offset for partition, offset in ends.items()}


def _partitions(consumer: KafkaConsumer, topic: str, *, patience_s: float = 10.0) -> set[int]:
    """The topic's partitions; a client that has just connected may have to ask more than once."""
    deadline = time.monotonic() + patience_s
    while not (found := consumer.partitions_for_topic(topic)):
        if time.monotonic() > deadline:
            message = f"topic {topic!r} is not there after {patience_s:g} s"
            raise TimeoutError(message)
        time.sleep(0.2)
    return set(found)
