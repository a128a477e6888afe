"""The report of a replay: it reconciles when the sides agree, and says which claim fails when they do not."""

import copy
import io
import time

import pytest
from rich.console import Console

from infra.replay import kills
from infra.replay.backpressure import BackPressure, Consumed
from infra.replay.errors import StalledError
from infra.replay.report import Facts, build
from infra.replay.summary import show
from streams.audit import Counted, Findings
from streams.replayer import Sent

COUNTS = {"received": 100, "applied": 90, "rejected": 3, "duplicate": 4, "late": 2, "erased": 1, "truncated": 0}


def facts() -> Facts:
    found = Findings(
        partitions={
            ("clickstream.events", 0): Counted(0, 60, 60),
            ("clickstream.events", 1): Counted(0, 40, 40),
            ("clickstream.events", 2): Counted(),
        },
        interactions=92,
        first_served_ms={0: 1_000, 1: 6_500},
        releases={
            1: {"sequence": 1, "version": 1, "kind": "release", "triggered_at_ms": 4_000, "released_at_ms": 6_000},
            2: {"sequence": 2, "version": 0, "kind": "rollback", "triggered_at_ms": 8_000, "released_at_ms": 8_100},
        },
        totals={
            ("mixture", "hit_rate_10"): (80, 0.2),
            ("mixture", "mrr"): (80, 0.1),
            ("popularity", "mrr"): (80, 0.05),
        },
        drifts={"d": {"drift_id": "d", "level": "alarm"}},
        dead_sources={(0, 1), (0, 2), (1, 5)},
    )
    found.ranking_ages_ms.extend([100.0, 200.0, 300.0])
    ledger = {
        "clickstream.events": {
            "counts": COUNTS,
            "next_offset": {0: 60, 1: 40, 2: 0},
            "freshness_ms": {"p50": 50.0, "p99": 90.0},
        },
        "interactions.by_item": {"counts": {"applied": 90}},
    }
    finished = {
        "number": 1,
        "triggered_at_ms": 4_000,
        "finished_at_ms": 6_000,
        "outcome": "passed",
        "verdict": {"why": "better"},
    }
    return Facts(
        ledger=ledger,
        before={},
        found=found,
        sent=100,
        learned=92,
        rounds=[finished],
        swaps=[{"version": 1, "sequence": 1, "swapped_at_ms": 6_400}],
        ingest_s=4.0,
        wall_s=9.0,
        extra={"seed": 7},
    )


def test_equal_sides_reconcile_and_the_figures_are_those_observed() -> None:
    report = build(facts())
    assert report["reconcile"]["holds"]
    assert report["events"] == COUNTS
    assert report["throughput_eps"] == 25.0
    assert report["freshness_ms"]["feature"] == {"p50": 50.0, "p99": 90.0}
    assert report["freshness_ms"]["ranking"]["p50"] == 200.0
    assert (report["release_s"]["p50"], report["release_s"]["count"]) == (2.4, 1)
    assert (report["rounds"], report["releases"], report["rollbacks"]) == (1, 1, 1)
    assert report["gates"][0]["verdict"] == {"why": "better"}
    assert report["quality"]["mixture"] == {"hit_rate_10": 0.2, "mrr": 0.1, "count": 80}
    assert report["seed"] == 7


@pytest.mark.parametrize(
    ("claim", "break_it"),
    [
        ("received = applied", lambda f: f.ledger["clickstream.events"]["counts"].update(applied=89)),
        ("counted independently", lambda f: f.found.partitions.update({("clickstream.events", 0): Counted(0, 60, 59)})),
        ("sent and acknowledged", lambda f: setattr(f, "sent", 101)),
        ("next offset of every", lambda f: f.ledger["clickstream.events"]["next_offset"].update({1: 39})),
        ("distinct interactions", lambda f: setattr(f.found, "interactions", 93)),
        ("dead letters", lambda f: f.found.dead_sources.add((3, 3))),
        ("item features", lambda f: f.ledger["interactions.by_item"]["counts"].update(applied=91)),
        ("truncated", lambda f: f.found.partitions.update({("clickstream.events", 0): Counted(0, 60, 60, 1)})),
        ("learner", lambda f: setattr(f, "learned", 91)),
    ],
)
def test_each_side_that_differs_is_found(claim: str, break_it: object) -> None:
    broken = copy.deepcopy(facts())
    break_it(broken)
    result = build(broken)["reconcile"]
    assert not result["holds"]
    assert any(claim in one["claim"] for one in result["checks"] if not one["holds"])


def test_what_was_there_before_is_not_counted() -> None:
    again = facts()
    again.before = {"clickstream.events": {"counts": {"received": 40, "applied": 40}}}
    assert build(again)["events"]["received"] == 60


def test_the_summary_names_what_does_not_reconcile() -> None:
    broken = facts()
    broken.sent = 99
    broken.extra["recounts"] = [{"moment": "at the end", "users": 1, "items": 1, "differences": ["user u: view_count"]}]
    page = io.StringIO()
    show(build(broken), Console(file=page, width=160))
    assert "does NOT reconcile: events sent and acknowledged = events in Kafka: 99 against 100" in page.getvalue()
    assert "user u: view_count" in page.getvalue()


def test_kills_are_drawn_by_the_seed_and_leave_the_ends_alone() -> None:
    drawn = kills.plan(events=1_000, workers=2, worker_kills=5, learner_kills=2, seed=3)
    assert drawn == kills.plan(events=1_000, workers=2, worker_kills=5, learner_kills=2, seed=3)
    assert drawn != kills.plan(events=1_000, workers=2, worker_kills=5, learner_kills=2, seed=4)
    assert drawn == sorted(drawn)
    assert all(100 <= kill.after_events <= 900 for kill in drawn)


def pressure(
    *answers: Consumed, embedded: bool = True, rounds: int | None = 1_000, patience_s: float = 9.0
) -> BackPressure:
    left = list(answers)

    async def consumed() -> Consumed:
        return left.pop(0) if len(left) > 1 else left[0]

    return BackPressure(
        consumed=consumed, embedded=embedded, round_interactions=rounds, poll_s=0.01, patience_s=patience_s
    )


def consumed(**learner: int | None) -> Consumed:
    return Consumed(by_partition={0: 5_000}, applied=5_000, by_item=5_000, **learner)


@pytest.mark.parametrize(
    ("reason", "progress"),
    [
        (None, consumed(learned=3_500)),
        ("the learner, which is a round behind", consumed(learned=3_499)),
        (None, consumed(learned=5_000, since_trigger=1_500, rounds_behind=2)),
        ("the learner, which is a round behind", consumed(learned=5_000, since_trigger=1_501)),
        ("the learner, which is a round behind", consumed(learned=4_500, since_trigger=1_001)),
        ("the learner, which does not answer", consumed(learned=None)),
        (
            None,
            Consumed(by_partition={0: 5_000}, applied=2_000, by_item=2_000, learned=2_000),
        ),  # the rest was no interaction
    ],
)
def test_the_learner_is_at_most_one_round_behind(reason: str | None, progress: Consumed) -> None:
    sent = Sent(events=5_000, by_partition={0: 5_000}, largest_bytes=300)
    found = pressure(progress).reason(sent, 100, progress)
    assert found == reason


def test_the_embedded_broker_is_never_asked_to_keep_more_than_it_can() -> None:
    sent = Sent(events=8_000, by_partition={0: 7_000, 1: 1_000}, largest_bytes=300)
    nothing_read = Consumed(by_partition={}, learned=0)
    all_but_items = Consumed(by_partition={0: 6_990, 1: 1_000}, applied=7_990, by_item=0, learned=7_990)
    assert pressure(nothing_read, rounds=None).reason(sent, 100, nothing_read).startswith("the worker")
    assert pressure(nothing_read, rounds=None).reason(sent, 100, all_but_items) is None
    large = Sent(events=8_000, by_partition=sent.by_partition, largest_bytes=500)
    assert pressure(nothing_read, rounds=None).reason(large, 100, all_but_items).startswith("item features")
    assert pressure(nothing_read, rounds=None, embedded=False).reason(large, 100, nothing_read) is None


async def test_holding_ends_when_there_is_room_and_is_accounted_for() -> None:
    sent = Sent(events=5_000, by_partition={0: 5_000}, largest_bytes=300)
    behind = Consumed(by_partition={0: 5_000}, applied=5_000, by_item=5_000, learned=0)
    caught_up = Consumed(by_partition={0: 5_000}, applied=5_000, by_item=5_000, learned=5_000)
    holding = pressure(behind, behind, behind, caught_up)
    begun = time.monotonic()
    await holding.room(sent, 100)
    took_s = time.monotonic() - begun
    assert list(holding.held_s) == ["the learner, which is a round behind"]
    assert 0.02 < holding.held_s.popitem()[1] <= took_s


async def test_a_pipeline_that_stands_still_ends_the_replay_with_the_reason() -> None:
    sent = Sent(events=5_000, by_partition={0: 5_000}, largest_bytes=300)
    stuck = Consumed(by_partition={0: 5_000}, applied=5_000, by_item=5_000, learned=0)
    with pytest.raises(StalledError, match="without any progress for the learner, which is a round behind"):
        await pressure(stuck, patience_s=0.05).room(sent, 100)
