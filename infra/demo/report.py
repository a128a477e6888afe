"""The demo's final report: what was planted against what was caught, and clicks with against without learning."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from typing import Any

from infra.demo.clicks import clicks_per_reason, compare_groups, rate_over_time
from infra.demo.drifts import Alarm, Catch, Kind, PlantedDrift, Verdict, match_drifts
from infra.demo.observations import Observations, QualityPoint, quantiles
from infra.demo.shop import Exposure, best_click_rate

DAY_MS = 86_400_000
BUCKETS = 24  # points of every line in the report
WINDOW_SHARE = 0.12  # longest delay, as a share of the simulated span, at which an alarm still counts for its drift
OPENING_SHARE = 0.2  # of the span: until then everybody is new and nothing is learned, so that everything drifts
MIN_RELEASES = 3
METRICS = ("hit_rate_10", "ndcg_10", "mrr")


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """All that the report is made of.

    Args:
        seed: Of the simulation.
        wall_s: Seconds from the command to this report.
        traffic_s: Seconds of traffic.
        start_ms: Event time at which the traffic began.
        span_ms: Simulated length that was planned.
        end_ms: Event time at which the traffic ended.
        places: Length of the list on the home page.
        events_sent: Clickstream events produced.
        ledger: Of the clickstream, as `feature_store.report.ledger_report` gives it: `counts` and `freshness_ms`.
        planted: Drifts that were planned.
        started: Per kind, interactions scored and seconds of traffic when it was planted.
        exposures: Every list shown.
        observations: What the output topics carried.
        versions: Of the software.
    """

    seed: int
    wall_s: float
    traffic_s: float
    start_ms: int
    span_ms: int
    end_ms: int
    places: int
    events_sent: int
    ledger: Mapping[str, Any]
    planted: Sequence[PlantedDrift]
    started: dict[Kind, tuple[int, float]]
    exposures: Sequence[Exposure]
    observations: Observations
    versions: Mapping[str, str]


def build_report(run: DemoRun) -> dict[str, Any]:
    """Put the report together; every part is plain JSON."""
    seen = run.observations
    verdict = match_drifts(run.planted, seen.alarms, window_ms=round(WINDOW_SHARE * run.span_ms), started=run.started)
    releases = [_release(run, index) for index in range(len(seen.releases))]
    made = sum(release["kind"] == "release" for release in releases)
    return {
        "seed": run.seed,
        "versions": dict(run.versions),
        "wall_s": round(run.wall_s, 1),
        "traffic_s": round(run.traffic_s, 1),
        "simulated_days": round((run.end_ms - run.start_ms) / DAY_MS, 2),
        "events": {"sent": run.events_sent, **run.ledger.get("counts", {})},
        "throughput_eps": round(run.events_sent / run.traffic_s, 1) if run.traffic_s else None,
        "freshness_ms": {
            "feature": run.ledger.get("freshness_ms") if run.events_sent else None,
            "ranking": _percentiles(seen.freshness_ms),
        },
        "rankings": seen.rankings,
        "releases": releases,
        "release_s": _percentiles(seen.swap_s()),
        "quality": _quality(seen),
        "quality_over_time": {
            expert: _thin(points, run)
            for (metric, expert), points in sorted(seen.quality.items())
            if metric == METRICS[0]
        },
        "drift": _drift(verdict, run),
        "click_rate": _click_rate(run),
        "goals": {
            f"at least {MIN_RELEASES} releases": made >= MIN_RELEASES,
            "at least one planted drift caught": verdict.caught >= 1,
        },
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    pair = quantiles(values)
    return {"p50": round(pair[0], 2), "p99": round(pair[1], 2)} if pair else None


def _day(run: DemoRun, at_ms: float) -> float:
    return round((at_ms - run.start_ms) / DAY_MS, 3)


def _release(run: DemoRun, index: int) -> dict[str, Any]:
    seen = run.observations.releases[index]
    release = seen.release
    ranked_ms = run.observations.first_ranked_ms.get(release.version)
    return {
        "kind": release.kind,
        "version": release.version,
        "parent": release.parent,
        "day": _day(run, seen.event_time_ms),
        "wall_s": round(seen.wall_s, 1),
        "round_s": round((release.released_at_ms - release.triggered_at_ms) / 1000, 2),
        "trigger_to_first_ranking_s": (
            round((ranked_ms - release.triggered_at_ms) / 1000, 2)
            if ranked_ms is not None and release.kind == "release"
            else None
        ),
        "verdict": release.verdict,
    }


def _quality(seen: Observations) -> dict[str, dict[str, float]]:
    """Per expert the figures since the first interaction, best first."""
    table: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        for expert, point in seen.latest(metric).items():
            table.setdefault(expert, {})[metric] = round(point.total, 4)
    return dict(sorted(table.items(), key=lambda row: -row[1].get(METRICS[0], 0.0)))


def _thin(points: Sequence[QualityPoint], run: DemoRun) -> list[tuple[float, float]]:
    """At most BUCKETS points, each the mean over its interactions; a window of figures may well span empty buckets."""
    edges = bucket_edges(run)
    sums = [[0.0, 0] for _ in range(BUCKETS)]
    for point in points:
        bucket = min(
            int((point.event_time_ms - run.start_ms) * BUCKETS / max(run.end_ms - run.start_ms, 1)), BUCKETS - 1
        )
        if bucket >= 0:
            sums[bucket][0] += point.value * point.count
            sums[bucket][1] += point.count
    return [
        (_day(run, (edges[i] + edges[i + 1]) / 2), round(total / count, 4))
        for i, (total, count) in enumerate(sums)
        if count
    ]


def bucket_edges(run: DemoRun) -> list[int]:
    """Bounds of the time buckets of every line."""
    span = run.end_ms - run.start_ms
    return [run.start_ms + round(index * span / BUCKETS) for index in range(BUCKETS + 1)]


def _alarm(run: DemoRun, alarm: Alarm) -> dict[str, Any]:
    return {
        "metric": alarm.metric,
        "day": _day(run, alarm.event_time_ms),
        "interactions": alarm.interactions,
        "value": alarm.value,
        "baseline": alarm.baseline,
    }


def _catch(run: DemoRun, catch: Catch) -> dict[str, Any]:
    delay_ms, delay_wall_s = catch.delay_ms, catch.delay_wall_s
    return {
        "kind": catch.planted.kind,
        "story": catch.planted.story,
        "planted": catch.is_planted,
        "day": _day(run, catch.planted.start_ms),
        "window_ends_day": _day(run, min(catch.until_ms, max(run.end_ms, catch.planted.start_ms))),
        "caught": catch.is_caught,
        "delay_interactions": catch.delay_interactions,
        "delay_simulated_h": None if delay_ms is None else round(delay_ms / 3_600_000, 1),
        "delay_wall_s": None if delay_wall_s is None else round(delay_wall_s, 1),
        "alarms": [_alarm(run, alarm) for alarm in catch.alarms],
    }


def _drift(verdict: Verdict, run: DemoRun) -> dict[str, Any]:
    opened_ms = run.start_ms + OPENING_SHARE * run.span_ms
    opening = [alarm for alarm in verdict.false_alarms if alarm.event_time_ms < opened_ms]
    false_alarms = [alarm for alarm in verdict.false_alarms if alarm.event_time_ms >= opened_ms]
    windows_ms = sum(max(min(c.until_ms, run.end_ms) - c.planted.start_ms, 0) for c in verdict.catches if c.is_planted)
    outside_ms = max(run.end_ms - opened_ms - windows_ms, 1.0)
    return {
        "planted": [_catch(run, catch) for catch in verdict.catches],
        "caught": verdict.caught,
        "false_alarms": [_alarm(run, alarm) for alarm in false_alarms],
        "opening_alarms": [_alarm(run, alarm) for alarm in opening],
        "opening_ends_day": _day(run, opened_ms),
        "gains": [_alarm(run, alarm) for alarm in verdict.gains],
        "warnings": run.observations.warnings,
        "chance_per_window": chance_of_alarm(
            len(false_alarms), outside_ms=outside_ms, window_ms=WINDOW_SHARE * run.span_ms
        ),
    }


def chance_of_alarm(false_alarms: int, *, outside_ms: float, window_ms: float) -> float:
    """Chance that a false alarm falls into a window, if false alarms come as a Poisson process.

    Args:
        false_alarms: Counted outside all windows.
        outside_ms: Time in which they were counted.
        window_ms: Length of a window.

    >>> chance_of_alarm(2, outside_ms=2_000, window_ms=1_000)
    0.632
    """
    return round(1 - exp(-false_alarms / outside_ms * window_ms), 3)


def _click_rate(run: DemoRun) -> dict[str, Any]:
    test = compare_groups(run.exposures, seed=run.seed)
    edges = bucket_edges(run)
    over_time = {
        name: [
            (_day(run, at_ms), None if rate is None else round(rate, 4))
            for at_ms, rate in rate_over_time(run.exposures, edges_ms=edges, is_control=is_control)
        ]
        for name, is_control in (("learned", False), ("control", True))
    }
    return {
        "best_possible": round(best_click_rate(run.places), 4),
        "test": None if test is None else asdict(test),
        "over_time": over_time,
        "clicks_by_reason": clicks_per_reason(run.exposures),
    }
