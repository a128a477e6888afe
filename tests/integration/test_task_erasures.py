"""Whoever asks to be forgotten is forgotten by a task's worker, too: in what waits and what is replayed, for good."""

import asyncio
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task
from streams.clients import KafkaConnection
from streams.errors import UnknownTopicError
from streams.events import Erasure, Metric, TaskPrediction
from streams.learning.checkpoint import Checkpoints
from streams.task_process import TaskProcess
from streams.tasks.study import TaskStudy
from streams.topics import QUALITY_METRICS, TASKS_EXAMPLES, TASKS_PREDICTIONS, USERS_ERASURES
from tests.brokers import EmbeddedBroker
from tests.integration.task_worker_harness import (
    DLQ,
    Record,
    everything,
    record,
    send,
    with_topics,
    work,
    work_for_nothing,
    worker,
)
from tests.learners.tasks.tasks_data import topic_rows, topic_task

TASKS = [topic_task()]


@pytest.fixture
def kafka(embedded_kafka: EmbeddedBroker) -> KafkaConnection:
    return with_topics(embedded_kafka)


def records(count: int, *, start: int = 0, task: str = "topic", **more: Any) -> list[Record]:
    """Every fourth is Ada's, with a word of hers; every fourth Bob's; the others are nobody's."""
    made = []
    for number, row in enumerate(topic_rows(start + count)[start:], start=start):
        user_id = {0: "ada", 2: "bob"}.get(number % 4)
        title = f"{row['title']} adasword{number}" if user_id == "ada" else row["title"]
        made.append(record(number, {**row, "title": title, **more}, task=task, user_id=user_id))
    return made


def now_ms() -> int:
    return int(time.time() * 1000)


async def erase(kafka: KafkaConnection, user_id: str, requested_at_ms: int) -> None:
    asked = Erasure(user_id=user_id, requested_at=datetime.fromtimestamp(requested_at_ms / 1000, tz=UTC))
    await send(kafka, [(user_id.encode(), msgspec.json.encode(asked))], topic=USERS_ERASURES)


async def test_without_the_topic_of_erasures_nothing_is_answered(embedded_kafka: EmbeddedBroker, tmp_path: Path):
    embedded_kafka.create_topics({TASKS_EXAMPLES: 1, DLQ: 1, TASKS_PREDICTIONS: 1, QUALITY_METRICS: 1})
    kafka = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
    await send(kafka, records(8))
    with pytest.raises(UnknownTopicError, match=r"'users\.erasures' does not exist .* run `alluvium topics apply`"):
        await work(kafka, tmp_path, 8, TASKS)


def owners(study: TaskStudy) -> list[str | None]:
    """Whose examples are in memory, exam and waiting."""
    return [
        example.user_id
        for desk in study.desks.values()
        for held in (desk.learner.memory.examples(), desk.learner.exam.examples(), desk.waiting)
        for example in held
    ]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def until(process: TaskProcess, count: str, reached: int, running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(60):
        while not running.done() and process.progress().get("counts", {}).get(count, 0) < reached:
            await asyncio.sleep(0.05)


async def test_a_person_is_dropped_from_what_waits_and_what_is_replayed_and_may_come_again(
    kafka: KafkaConnection, tmp_path: Path
):
    await send(kafka, records(60))
    process = worker(kafka, tmp_path, TASKS)
    running = asyncio.create_task(process.run())
    try:
        await until(process, "predicted", 60, running)
        assert owners(process._study).count("ada") == 15  # 10 of them learned or judging, 5 waiting
        await asyncio.sleep(0.01)
        await erase(kafka, "ada", now_ms())
        await until(process, "erasures", 1, running)
        counts = process.progress()["counts"]
        assert (counts["forgotten"], counts["erasures"], process.progress()["waiting"]) == (15, 1, 15)
        held = owners(process._study)
        assert (held.count("ada"), held.count("bob"), len(held)) == (0, 15, 45)

        await asyncio.sleep(0.01)
        await send(kafka, [record(100, {"title": "ada's new mug", "topic": "kitchen"}, user_id="ada")])
        await until(process, "predicted", 61, running)
        assert owners(process._study).count("ada") == 1  # what she sent after she asked
        assert process.progress()["counts"].get("erased", 0) == 0
        process.stopping.set()
        await running
    finally:
        running.cancel()
        await process.close()
    saved = bytes_of(tmp_path)
    assert b"adasword" not in saved
    assert b"ada's new mug" in saved  # so that the line above can fail
    study = process._study
    assert isinstance(study.learner, TaskLearner)
    assert not any("adasword" in text for text, _ in study.learner.model._cache[0]._held)


async def test_examples_up_to_the_request_are_neither_answered_nor_learned_when_the_worker_comes_later(
    kafka: KafkaConnection, tmp_path: Path
):
    await send(kafka, records(60))
    await erase(kafka, "ada", now_ms() + 1)
    await send(kafka, [(b"bob", b"{")], topic=USERS_ERASURES)

    process = await work(kafka, tmp_path, 60, TASKS)

    counts = process.progress()["counts"]
    assert (counts["predicted"], counts["erased"], counts["rounds"]) == (45, 15, 1)
    assert (counts["forgotten"], counts["erasures_rejected"]) == (0, 1)
    assert "ada" not in owners(process._study)
    said = [
        msgspec.json.decode(value or b"", type=TaskPrediction) for value in await everything(kafka, TASKS_PREDICTIONS)
    ]
    assert {answer.example_id for answer in said} == {f"e{number}" for number in range(60) if number % 4}


async def test_a_request_that_came_while_the_worker_was_dead_is_followed_before_anything_is_learned(
    kafka: KafkaConnection, tmp_path: Path
):
    await send(kafka, records(50))
    await work(kafka, tmp_path, 50, TASKS)
    await send(kafka, records(50, start=50))
    await work_for_nothing(kafka, tmp_path, 100, TASKS)  # a second round, of which no checkpoint knows
    await erase(kafka, "ada", now_ms() + 1)

    process = await work(kafka, tmp_path, 100, TASKS)
    again = await work(kafka, tmp_path, 100, TASKS)

    counts = process.progress()["counts"]
    assert (counts["forgotten"], counts["erased"], counts["predicted"]) == (13, 12, 88)
    held = owners(process._study)
    assert (held.count("ada"), len(held)) == (0, 75)
    assert again.progress()["counts"] == counts  # the same request counts once
    assert b"adasword" not in bytes_of(tmp_path)
    metrics = [msgspec.json.decode(value or b"", type=Metric) for value in await everything(kafka, QUALITY_METRICS)]
    assert metrics[-1].total_count == 88 - len(process._study.desks["topic"].waiting)


async def test_a_joint_worker_warns_of_what_its_tasks_kept_when_they_learned_alone(
    kafka: KafkaConnection, tmp_path: Path
):
    size = Task.from_dict({**topic_task().as_dict(), "name": "size", "kind": "score", "target": "size", "classes": ()})
    left_over = tmp_path / "tasks" / "classify" / "topic" / "checkpoints"
    await send(kafka, records(4))
    with structlog.testing.capture_logs() as alone:
        await work(kafka, tmp_path, 4, TASKS)
        await work(kafka, tmp_path, 4, TASKS)  # its own are in use
    with structlog.testing.capture_logs() as before:
        await work(kafka, tmp_path, 4, [topic_task(), size], share="trunk")
    shutil.rmtree(left_over)
    with structlog.testing.capture_logs() as after:
        await work(kafka, tmp_path, 4, [topic_task(), size], share="trunk")

    said = [[each for each in logs if each["event"] == "checkpoints_left_over"] for logs in (alone, before, after)]
    assert [len(each) for each in said] == [0, 1, 0]
    (warning,) = said[1]
    assert (warning["log_level"], warning["task"], warning["folder"]) == ("warning", "classify/topic", str(left_over))
    assert "remove the folder" in warning["to_do"]


async def test_all_tasks_that_learn_jointly_forget_and_go_on(kafka: KafkaConnection, tmp_path: Path):
    size = Task.from_dict({**topic_task().as_dict(), "name": "size", "kind": "score", "target": "size", "classes": ()})
    tasks = [topic_task(), size]
    await send(kafka, [*records(40), *records(40, start=40, task="size", size=3.0)])
    process = worker(kafka, tmp_path, tasks, share="trunk")
    running = asyncio.create_task(process.run())
    try:
        await until(process, "predicted", 80, running)
        await erase(kafka, "bob", now_ms())
        await until(process, "erasures", 1, running)
        assert process.progress()["counts"]["forgotten"] == 20
        await erase(kafka, "ada", now_ms())
        await until(process, "erasures", 2, running)
        assert set(owners(process._study)) == {None}
        await send(kafka, records(80, start=100))
        await until(process, "predicted", 160, running)
        assert process.progress()["counts"]["rounds"] == 2
        process.stopping.set()
        await running
    finally:
        running.cancel()
        await process.close()
    newest = Checkpoints(process._root() / "checkpoints").newest()
    assert newest is not None
    restored = TaskStudy.load(newest[0], sorted(tasks, key=lambda task: task.name), share="trunk", round_examples=60)
    assert sorted(map(str, owners(restored))) == sorted(map(str, owners(process._study)))
    assert set(newest[1].erasures) == {"ada", "bob"}
