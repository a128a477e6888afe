"""Two workers: a hung one that wakes up after its partitions moved, and the same ranking from both."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.replay.drain import nothing
from infra.replay.run import Intervention, Run
from infra.replay.watch import get_json, until
from tests.replays import dirty_log, online_retail, run_replay, toy_settings

PATIENCE_S = 40.0


async def clickstream_partitions(run: Run, name: str) -> set[str]:
    progress = await asyncio.to_thread(get_json, f"{run.deployment.urls[name]}/progress") or {}
    return {partition for partition in progress.get("partitions", ()) if partition.startswith("clickstream.events")}


def test_a_worker_that_was_stopped_until_its_partitions_moved_changes_nothing(tmp_path: Path) -> None:
    events = dirty_log(tmp_path / "events.jsonl", events=4_000)
    moved: list[set[str]] = []

    async def stop_and_continue(run: Run) -> None:
        supervisor = run.deployment.supervisor
        assert await clickstream_partitions(run, "worker-1")
        supervisor.kill("worker-1", signal.SIGSTOP)

        async def all_moved() -> bool:
            return len(await clickstream_partitions(run, "worker-2")) == 4

        try:
            await until(all_moved, moving=nothing, patience_s=PATIENCE_S, waiting_for="partitions to move")
            moved.append(await clickstream_partitions(run, "worker-2"))
            await asyncio.sleep(1.0)  # the successor writes
        finally:
            supervisor.kill("worker-1", signal.SIGCONT)

    report = run_replay(
        events,
        toy_settings(tmp_path / "data", kafka={"session_timeout_s": 6.0}),
        workers=2,
        learner=False,
        speed=400,
        interventions=[Intervention(after_events=1_500, act=stop_and_continue)],
    )
    assert moved
    assert report["reconcile"]["holds"], [one for one in report["reconcile"]["checks"] if not one["holds"]]
    assert not report["recounts"][-1]["differences"]
    assert report["ok"]


def test_two_workers_rank_alike_with_one_release(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []
    serving: list[dict[str, Any]] = []
    restarts: list[int] = []
    shares: list[set[str]] = []

    async def ask_both(run: Run) -> None:
        await run.drain.learned()
        await asyncio.sleep(2.0)  # the last update of the experts is on its way for a second at most
        answers.extend(await asyncio.to_thread(ask_every_partition, run, "c17850"))
        serving.extend([get_json(f"{url}/progress") or {} for url in run.deployment.worker_urls])
        shares.extend([await clickstream_partitions(run, name) for name in run.deployment.workers])
        restarts.extend(run.deployment.supervisor.restarts(name) for name in run.deployment.urls)

    report = run_replay(
        online_retail() / "events.parquet",
        toy_settings(tmp_path),
        limit=2_500,
        workers=2,
        interventions=[Intervention(after_events=2_500, act=ask_both)],
    )
    assert report["ok"]
    assert report["releases"] >= 1
    assert restarts == [0, 0, 0]  # each found a port of its own
    assert all(shares)
    assert not shares[0] & shares[1]
    newest = max(gate["version"] or 0 for gate in report["gates"])
    assert [progress["model_version"] for progress in serving] == [newest, newest]
    assert len(answers) == 4
    first = answers[0]
    assert len(first["items"]) == 20
    assert {answer["model_version"] for answer in answers} == {newest}
    for answer in answers[1:]:
        assert [place["item_id"] for place in answer["items"]] == [place["item_id"] for place in first["items"]]
        for place, other in zip(answer["items"], first["items"], strict=True):
            assert abs(place["score"] - other["score"]) <= 1e-6 * abs(other["score"])
            assert place["reason"] == other["reason"]


def ask_every_partition(run: Run, user_id: str) -> list[dict[str, Any]]:
    """Send the same request to every partition, so that every worker answers, and collect the answers."""
    import msgspec

    options = run.kafka_options
    consumer = KafkaConsumer(**options, auto_offset_reset="latest", enable_auto_commit=False)
    consumer.assign([TopicPartition("recommendations.rankings", partition) for partition in range(4)])
    for partition in consumer.assignment():
        consumer.seek_to_end(partition)
        consumer.position(partition)
    producer = KafkaProducer(**options, acks="all", enable_idempotence=False)
    for partition in range(4):
        request = {"request_id": f"ask-{partition}", "user_id": user_id, "k": 20}
        producer.send("ranking.requests", partition=partition, key=user_id.encode(), value=msgspec.json.encode(request))
    producer.flush()
    producer.close()
    answers: dict[str, dict[str, Any]] = {}
    for _ in range(60):
        for records in consumer.poll(timeout_ms=500).values():
            rankings = (msgspec.json.decode(record.value) for record in records)
            answers |= {r["request_id"]: r for r in rankings if (r["request_id"] or "").startswith("ask-")}
        if len(answers) == 4:
            break
    consumer.close()
    return list(answers.values())
