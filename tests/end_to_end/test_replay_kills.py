"""Worker and learner die at random moments of a replay; nothing is lost, repeated or misplaced."""

from collections import Counter
from pathlib import Path

from infra.recount import recount
from streams.eventlog import event_log
from tests.replays import dirty_log, run_replay, toy_settings

TARGETS = ("view", "click", "cart", "purchase")


def test_a_replay_with_kills_reconciles_and_its_features_equal_the_recount(tmp_path: Path) -> None:
    events = dirty_log(tmp_path / "events.jsonl", events=4_000)
    report = run_replay(events, toy_settings(tmp_path / "data"), worker_kills=2, learner_kills=2, seed=11, speed=1_000)
    assert report["reconcile"]["holds"], [one for one in report["reconcile"]["checks"] if not one["holds"]]
    assert Counter(kill["process"] for kill in report["kills"]) == {"worker-1": 2, "learner": 2}
    assert len(report["recounts"]) == 3  # after each recovery of the worker, and at the end
    for compared in report["recounts"]:
        assert not compared["differences"]
        assert compared["users"] >= 50
        assert compared["items"] == 200
    assert report["ok"]

    # every kind of outcome did occur, as often as a plain recount says
    log = [event for chunk in event_log(events) for event in chunk]
    rejected = {event.event_id for event in log if event.fields.get("price", 0) < 0}
    truth = recount(log, allowed_lateness_ms=3_600_000, rejected=rejected)
    assert min(truth.applied, truth.rejected, truth.duplicate, truth.late) > 20
    counts = {name: report["events"][name] for name in ("applied", "rejected", "duplicate", "late", "erased")}
    assert counts == {
        "applied": truth.applied,
        "rejected": truth.rejected,
        "duplicate": truth.duplicate,
        "late": truth.late,
        "erased": 0,
    }

    # the learner had each interaction once: in its own count, in the metrics, and in its rounds
    assert report["learner"]["interactions"] == truth.applied + truth.late
    assert report["rounds"] >= 2
    assert report["quality"]["mixture"]["count"] > 0
