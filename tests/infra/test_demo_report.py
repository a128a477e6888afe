"""The final report holds what happened, in JSON, in text and as a page."""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from infra.demo.catalogue import write_catalogue
from infra.demo.drifts import plan_drifts
from infra.demo.observations import Observations
from infra.demo.page import render_html
from infra.demo.plots import Line, line_chart, spread, ticks
from infra.demo.report import DemoRun, build_report
from infra.demo.shop import Shop
from infra.demo.summary import render_text
from infra.demo.visitors import Visitors
from streams.events import Drift, Metric, RankedItem, Ranking, Release

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
SPAN_MS = 24 * HOUR_MS * 20
EXPERTS = {"mixture": 0.4, "shared_model": 0.3, "fast_memory": 0.35, "popularity": 0.1, "repeat": 0.2}


def release_record(version: int, *, kind: Any = "release", sequence: int | None = None) -> Release:
    return Release(
        model="shared",
        version=version,
        sequence=sequence or version,
        kind=kind,
        uri="file:///x",
        sha256="0",
        parent=version - 1 or None,
        offsets={},
        metrics={},
        verdict={"passed": True},
        triggered_at_ms=1_000 * version,
        released_at_ms=1_000 * version + 500,
    )


def metric_record(at_ms: int, *, expert: str, value: float, metric: str = "hit_rate_10") -> Metric:
    return Metric(
        metric_id=f"{metric}/{expert}/{at_ms}",
        metric=metric,
        expert=expert,
        value=value,
        count=100,
        total_value=value / 2,
        total_count=1_000,
        model_version=1,
        event_time_ms=at_ms,
        interactions=(at_ms - START_MS) // HOUR_MS,
    )


def drift_record(at_ms: int, *, level: Any = "alarm", metric: str = "hit_rate_10:mixture", value: float = 0.1) -> Drift:
    return Drift(
        drift_id=f"{metric}/{level}/{at_ms}",
        metric=metric,
        level=level,
        value=value,
        baseline=0.4,
        event_time_ms=at_ms,
        interactions=(at_ms - START_MS) // HOUR_MS,
    )


def ranking_record(user_id: str, *, version: int = 1, appended_ms: int | None = 1_000) -> Ranking:
    return Ranking(
        ranking_id=f"r-{user_id}",
        user_id=user_id,
        model_version=version,
        items=(RankedItem(item_id="P0000", score=1.0, reason="repeat"),),
        ranked_at_ms=2_000,
        appended_watermark_ms=appended_ms,
    )


class Feed:
    """Observations with a clock that the test moves."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.simulated_ms = START_MS
        self.rankings: list[Ranking] = []
        self.seen = Observations(
            wall_s=lambda: self.wall_s,
            simulated_ms=lambda: self.simulated_ms,
            on_ranking=self.rankings.append,
        )

    def see(self, topic: str, record: msgspec.Struct, timestamp_ms: int = 0) -> None:
        self.seen.see(topic, msgspec.json.encode(record), timestamp_ms)


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A demo of twenty simulated days without a system: records are made up, the shop is the real one."""
    feed = Feed()
    planted = plan_drifts(start_ms=START_MS, span_ms=SPAN_MS)
    catalogue = write_catalogue(seed=0)
    visitors = Visitors(count=60, catalogue=catalogue, drifts=planted, seed=0, control_share=0.5)
    shop = Shop(catalogue=catalogue, visitors=visitors, start_ms=START_MS, visits_per_ms=4 / HOUR_MS, seed=0)
    events = 0
    for hour in range(SPAN_MS // HOUR_MS):
        feed.wall_s = hour / 2
        feed.simulated_ms = shop.now_ms
        events += len(shop.advance(shop.now_ms + HOUR_MS).events)
        if hour % 10 == 0:
            for expert, value in EXPERTS.items():
                feed.see("quality.metrics", metric_record(shop.now_ms, expert=expert, value=value))
        if hour % 100 == 50:
            feed.see("models.releases", release_record(hour // 100 + 1))
    feed.see("models.releases", release_record(2, kind="rollback", sequence=99))
    for after_h in (5, 9):
        feed.see("drift.metrics", drift_record(planted[0].start_ms + after_h * HOUR_MS))
    feed.see("drift.metrics", drift_record(START_MS + HOUR_MS, metric="feature:new_user_share"))
    feed.see("drift.metrics", drift_record(START_MS + 6 * 24 * HOUR_MS, metric="feature:event_gap_s"))
    feed.see("drift.metrics", drift_record(START_MS + 2 * HOUR_MS, value=0.9))
    feed.see("recommendations.rankings", ranking_record("V00000"), timestamp_ms=1_250)
    return build_report(
        DemoRun(
            seed=0,
            wall_s=300.0,
            traffic_s=200.0,
            start_ms=START_MS,
            span_ms=SPAN_MS,
            end_ms=START_MS + SPAN_MS,
            places=10,
            events_sent=events,
            ledger={
                "counts": {"received": events, "applied": events - 2, "rejected": 2},
                "freshness_ms": {"p50": 80.0, "p99": 300.0},
            },
            planted=planted,
            started={"taste_shift": (190, 96.0), "new_items": (300, 140.0), "seasonal_swing": (380, 190.0)},
            exposures=shop.exposures,
            observations=feed.seen,
            versions={"alluvium": "0.1.0"},
        )
    )


def test_the_report_is_plain_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)).keys() == report.keys()


def test_the_taste_shift_is_caught_with_its_delay_and_the_others_are_missed(report: dict[str, Any]) -> None:
    shift, arrival, swing = report["drift"]["planted"]
    assert shift["caught"]
    assert shift["day"] == 8.0
    assert shift["delay_simulated_h"] == 5.0
    assert shift["delay_interactions"] == (8 * 24 + 5) - 190
    assert not arrival["caught"]
    assert not swing["caught"]
    assert [alarm["metric"] for alarm in report["drift"]["false_alarms"]] == ["feature:event_gap_s"]
    assert [alarm["metric"] for alarm in report["drift"]["opening_alarms"]] == ["feature:new_user_share"]
    outside_days = 20 - 4 - 3 * 2.4
    assert report["drift"]["chance_per_window"] == pytest.approx(1 - math.exp(-2.4 / outside_days), abs=1e-3)
    assert len(report["drift"]["gains"]) == 1


def test_releases_and_rollbacks_are_told_apart_and_goals_follow(report: dict[str, Any]) -> None:
    assert [release["kind"] for release in report["releases"]] == ["release"] * 5 + ["rollback"]
    assert report["releases"][0]["trigger_to_first_ranking_s"] == 0.25
    assert report["releases"][1]["trigger_to_first_ranking_s"] is None
    assert report["goals"] == {"at least 3 releases": True, "at least one planted drift caught": True}


def test_quality_is_the_total_of_every_expert_best_first(report: dict[str, Any]) -> None:
    assert list(report["quality"]) == ["mixture", "fast_memory", "shared_model", "repeat", "popularity"]
    assert report["quality"]["mixture"]["hit_rate_10"] == 0.2
    assert {value for _, value in report["quality_over_time"]["mixture"] if value} == {0.4}


def test_without_rankings_both_groups_click_alike(report: dict[str, Any]) -> None:
    test = report["click_rate"]["test"]
    assert test["lift"]["low"] < 0 < test["lift"]["high"]
    assert test["learned"]["value"] < report["click_rate"]["best_possible"]


def test_the_text_says_what_the_report_holds(report: dict[str, Any]) -> None:
    text = render_text(report)
    assert "taste shift     caught after 5.0 simulated h, 7 interactions" in text
    assert "new items       missed" in text
    assert "false alarms: 1 (day 6.0 feature:event_gap_s)" in text
    assert "ranking freshness from broker append: p50 250 ms" in text
    assert "rollback of version 2" in text
    assert "     met  at least 3 releases" in text
    assert max(map(len, text.splitlines())) < 160


def test_the_page_is_one_file_that_fetches_nothing(report: dict[str, Any]) -> None:
    page = render_html(report)
    assert page.startswith("<!doctype html>")
    for word in ("<script", "<link", "http:", "https:", "url(", "@import"):
        assert word not in page
    for svg in charts(page):
        ET.fromstring(svg)
    assert page.count(">caught</span>") == 1
    assert page.count(">missed</span>") == 2


def charts(page: str) -> Iterator[str]:
    for part in page.split("<svg")[1:]:
        yield "<svg" + part.split("</svg>")[0] + "</svg>"


def test_a_report_of_nothing_renders_too() -> None:
    feed = Feed()
    empty = build_report(
        DemoRun(
            seed=0,
            wall_s=1.0,
            traffic_s=0.0,
            start_ms=START_MS,
            span_ms=SPAN_MS,
            end_ms=START_MS,
            places=10,
            events_sent=0,
            ledger={},
            planted=plan_drifts(start_ms=START_MS, span_ms=SPAN_MS),
            started={},
            exposures=(),
            observations=feed.seen,
            versions={},
        )
    )
    assert render_text(empty).count("not planted") == 3
    assert "NOT MET  at least 3 releases" in render_text(empty)
    for svg in charts(render_html(empty)):
        ET.fromstring(svg)


def test_records_that_come_twice_count_once(feed: Feed) -> None:
    for _ in range(2):
        feed.see("models.releases", release_record(1))
        feed.see("quality.metrics", metric_record(START_MS, expert="mixture", value=0.4))
        feed.see("drift.metrics", drift_record(START_MS))
        feed.see("drift.metrics", drift_record(START_MS, level="warning"))
    assert len(feed.seen.releases) == 1
    assert len(feed.seen.quality["hit_rate_10", "mixture"]) == 1
    assert len(feed.seen.alarms) == 1
    assert feed.seen.warnings == 1


def test_a_rollback_serves_the_older_version(feed: Feed) -> None:
    assert feed.seen.serving_version() == 0
    feed.see("models.releases", release_record(1))
    feed.see("models.releases", release_record(2))
    assert feed.seen.serving_version() == 2
    feed.see("models.releases", release_record(1, kind="rollback", sequence=3))
    assert feed.seen.serving_version() == 1


def test_freshness_is_from_the_events_append_to_the_rankings(feed: Feed) -> None:
    for appended_ms in (1_000, 1_100, None):
        feed.see("recommendations.rankings", ranking_record("u", appended_ms=appended_ms), timestamp_ms=1_500)
    assert feed.seen.freshness_ms == [500, 400]
    assert feed.seen.rankings == 3
    assert len(feed.rankings) == 3


def test_a_record_of_another_shape_is_an_error(feed: Feed) -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        feed.seen.see("models.releases", b'{"model": "shared"}', 0)


def test_a_gap_in_a_line_is_a_gap_in_the_picture() -> None:
    svg = line_chart(
        title="t",
        lines=[Line(name="a", colour="blue", points=[(0, 0.1), (1, None), (2, 0.3), (3, 0.2)])],
        bands=[],
        marks=[],
        x_range=(0, 3),
        x_label="days",
    )
    (path,) = [node for node in ET.fromstring(svg) if node.tag == "path"]
    assert [step[0] for step in path.attrib["d"].split()] == ["M", "M", "L"]


def test_labels_never_cover_each_other() -> None:
    placed = sorted(spread([50.0, 51.0, 52.0, 10.0], gap=15))
    assert all(below - above >= 15 for above, below in pairwise(placed))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.037), (3, 28.2), (0, 0)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 1 <= len(marks) <= 11
    assert all(low <= mark <= high + 1e-9 for mark in marks)
