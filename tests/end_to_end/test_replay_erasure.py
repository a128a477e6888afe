"""Somebody is forgotten while their events pour in, and the worker dies: what was theirs never returns."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from feature_store.apply import close_store, open_store
from infra.replay.run import Intervention, Run
from streams.eventlog import event_log
from streams.events import Erasure
from streams.publisher import Publisher
from tests.replays import online_retail, run_replay, toy_settings

EVENTS = 3_000


def comes_again(events: Path) -> str:
    """Somebody with events in the first third of the log and in the last."""
    users = [event.user_id for chunk in event_log(events, limit=EVENTS) for event in chunk]
    early, late = Counter(users[: EVENTS // 3]), Counter(users[-EVENTS // 3 :])
    return max(late, key=lambda user_id: min(early[user_id], late[user_id]))


async def erase(run: Run, user_id: str) -> None:
    now = datetime.now(tz=UTC)
    request = msgspec.json.encode(Erasure(user_id=user_id, requested_at=now))
    async with Publisher(connection=run.deployment.connection) as publisher:
        await publisher.send_keyed("users.erasures", [(user_id.encode(), request)])
    run.checker.erasures[user_id] = int(now.timestamp() * 1000)


def features_of(run: Run, user_id: str) -> dict[str, list[object]]:
    store = open_store(postgres_url=run.deployment.postgres_url)
    try:
        names = ["user_counters:purchase_count", "user_counters:purchase_14d", "user_interactions:item_ids"]
        return store.get_online_features(features=names, entity_rows=[{"user_id": user_id}]).to_dict()
    finally:
        close_store(store)


def test_an_erased_person_stays_erased_under_load_and_after_a_kill(tmp_path: Path) -> None:
    events = online_retail() / "events.parquet"
    user_id = comes_again(events)
    seen: dict[str, dict[str, list[object]]] = {}

    async def erase_and_kill(run: Run) -> None:
        await run.check_now("before the erasure")
        seen["before"] = features_of(run, user_id)
        await erase(run, user_id)
        run.deployment.supervisor.kill("worker-1")

    async def look_again(run: Run) -> None:
        await run.drain.learned()
        seen["after"] = features_of(run, user_id)

    report = run_replay(
        events,
        toy_settings(tmp_path),
        limit=EVENTS,
        speed=400,
        interventions=[
            Intervention(after_events=1_000, act=erase_and_kill),
            Intervention(after_events=EVENTS, act=look_again),
        ],
    )
    assert seen["before"]["purchase_count"][0] > 0
    assert seen["after"]["purchase_count"] == [0]
    assert seen["after"]["purchase_14d"] == [0.0]
    assert not seen["after"]["item_ids"][0]
    counts = report["events"]
    assert counts["erased"] > 0
    assert counts["received"] == EVENTS == sum(counts[name] for name in ("applied", "duplicate", "late", "erased"))
    # everybody else's features are as if nothing had happened; items keep what was counted before
    differing = [line for compared in report["recounts"] for line in compared["differences"]]
    assert not [line for line in differing if line.startswith("user")]
