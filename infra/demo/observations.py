"""What a consumer of the output topics saw during the demo: rankings, releases, quality, drift."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from infra.demo.drifts import Alarm
from streams.events import Drift, Metric, Ranking, Release
from streams.topics import DRIFT_METRICS, MODELS_RELEASES, QUALITY_METRICS, RECOMMENDATIONS_RANKINGS

RECENT_RANKINGS = 500  # the live view's freshness is over these


@dataclass(frozen=True, kw_only=True)
class QualityPoint:
    """One prequential figure of one expert.

    Args:
        event_time_ms: Of the newest interaction in the window.
        value: Over the window.
        count: Interactions in the window.
        total: Since the first interaction.
    """

    event_time_ms: int
    value: float
    count: int
    total: float


@dataclass(frozen=True, kw_only=True)
class SeenRelease:
    """A release or rollback, and when the demo and the worker saw it.

    Args:
        release: The record.
        wall_s: Seconds since the traffic began.
        event_time_ms: Simulated time when it was read.
    """

    release: Release
    wall_s: float
    event_time_ms: int


class Observations:
    """Collects what the output topics carried.

    Args:
        wall_s: Seconds since the traffic began, now.
        simulated_ms: The shop's clock, now.
        on_ranking: Called with every ranking.
    """

    def __init__(
        self,
        *,
        wall_s: Callable[[], float],
        simulated_ms: Callable[[], int],
        on_ranking: Callable[[Ranking], None],
    ) -> None:
        self._wall_s = wall_s
        self._simulated_ms = simulated_ms
        self._on_ranking = on_ranking
        self._seen_ids: set[str] = set()
        self._sequences: set[int] = set()
        self._recent: deque[int] = deque(maxlen=RECENT_RANKINGS)
        self.rankings = 0
        self.freshness_ms: list[int] = []
        self.first_ranked_ms: dict[int, int] = {}  # model version -> Kafka timestamp of the first ranking by it
        self.releases: list[SeenRelease] = []
        self.quality: dict[tuple[str, str], list[QualityPoint]] = {}  # (metric, expert)
        self.alarms: list[Alarm] = []
        self.warnings = 0
        self.interactions = 0
        self._decoders: dict[str, Callable[[bytes, int], None]] = {
            RECOMMENDATIONS_RANKINGS: self._see_ranking,
            MODELS_RELEASES: self._see_release,
            QUALITY_METRICS: self._see_metric,
            DRIFT_METRICS: self._see_drift,
        }

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that `see` understands."""
        return tuple(self._decoders)

    def see(self, topic: str, value: bytes | None, timestamp_ms: int) -> None:
        """Take in one record.

        Args:
            topic: One of `topics`.
            value: The record's value; None is ignored.
            timestamp_ms: The record's Kafka timestamp.

        Raises:
            msgspec.ValidationError: If the record is not what docs/asyncapi.yaml says.
        """
        if value is not None:
            self._decoders[topic](value, timestamp_ms)

    def serving_version(self) -> int:
        """Version of the newest release or rollback; 0 before the first."""
        if not self.releases:
            return 0
        return max(self.releases, key=lambda seen: seen.release.sequence).release.version

    def recent_freshness_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile of the newest rankings' freshness."""
        return quantiles(self._recent)

    def latest(self, metric: str) -> dict[str, QualityPoint]:
        """The newest figure of every expert."""
        return {expert: points[-1] for (name, expert), points in self.quality.items() if name == metric}

    def swap_s(self) -> list[float]:
        """Per release that ranked anybody: seconds from its trigger to the first ranking by it."""
        return [
            (self.first_ranked_ms[seen.release.version] - seen.release.triggered_at_ms) / 1000
            for seen in self.releases
            if seen.release.kind == "release" and seen.release.version in self.first_ranked_ms
        ]

    def _see_ranking(self, value: bytes, timestamp_ms: int) -> None:
        ranking = _decode_ranking(value)
        self.rankings += 1
        self.first_ranked_ms.setdefault(ranking.model_version, timestamp_ms)
        if ranking.appended_watermark_ms is not None:
            freshness_ms = timestamp_ms - ranking.appended_watermark_ms
            self.freshness_ms.append(freshness_ms)
            self._recent.append(freshness_ms)
        self._on_ranking(ranking)

    def _see_release(self, value: bytes, _timestamp_ms: int) -> None:
        release = _decode_release(value)
        if release.sequence not in self._sequences:  # the outbox may publish one twice
            self._sequences.add(release.sequence)
            self.releases.append(
                SeenRelease(release=release, wall_s=self._wall_s(), event_time_ms=self._simulated_ms())
            )

    def _see_metric(self, value: bytes, _timestamp_ms: int) -> None:
        metric = _decode_metric(value)
        if self._is_repeat(metric.metric_id):
            return
        self.interactions = max(self.interactions, metric.interactions)
        self.quality.setdefault((metric.metric, metric.expert), []).append(
            QualityPoint(
                event_time_ms=metric.event_time_ms,
                value=metric.value,
                count=metric.count,
                total=metric.total_value,
            )
        )

    def _see_drift(self, value: bytes, _timestamp_ms: int) -> None:
        drift = _decode_drift(value)
        if self._is_repeat(drift.drift_id):
            return
        self.interactions = max(self.interactions, drift.interactions)
        if drift.level == "warning":
            self.warnings += 1
        elif drift.level == "alarm":
            self.alarms.append(
                Alarm(
                    metric=drift.metric,
                    event_time_ms=drift.event_time_ms,
                    interactions=drift.interactions,
                    value=drift.value,
                    baseline=drift.baseline,
                    wall_s=self._wall_s(),
                )
            )

    def _is_repeat(self, record_id: str) -> bool:
        if record_id in self._seen_ids:
            return True
        self._seen_ids.add(record_id)
        return False


def quantiles(values: Sequence[float] | deque[int]) -> tuple[float, float] | None:
    """Median and 99th percentile, None of nothing.

    >>> quantiles([1, 2, 3])
    (2.0, 2.98)
    """
    if not values:
        return None
    median, high = np.quantile(np.array(values), [0.5, 0.99])
    return float(median), round(float(high), 3)


_decode_ranking = msgspec.json.Decoder(Ranking).decode
_decode_release = msgspec.json.Decoder(Release).decode
_decode_metric = msgspec.json.Decoder(Metric).decode
_decode_drift = msgspec.json.Decoder(Drift).decode
