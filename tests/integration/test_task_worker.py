"""A task behind Kafka: answers before it learns, learns in rounds, and forgets nothing when it is killed."""

import asyncio
import gc
import json
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest

from learners.tasks.task import Task
from streams.clients import KafkaConnection
from streams.events import Metric, TaskExample, TaskPrediction
from streams.publisher import Publisher
from streams.reader import WholeReader
from streams.task_process import TaskProcess, TaskWorkerConfig
from streams.tasks.errors import TaskBusyError, TaskChangedError
from streams.topics import QUALITY_METRICS, TASKS_EXAMPLES, TASKS_PREDICTIONS
from tests.brokers import EmbeddedBroker
from tests.learners.tasks.tasks_data import topic_rows, topic_task

DLQ = f"{TASKS_EXAMPLES}.dlq"
CONFIG = TaskWorkerConfig(round_examples=40, checkpoint_interval_s=0.0, give_up_after_s=20.0)


@pytest.fixture
def kafka(embedded_kafka: EmbeddedBroker) -> KafkaConnection:
    embedded_kafka.create_topics({TASKS_EXAMPLES: 1, DLQ: 1, TASKS_PREDICTIONS: 1, QUALITY_METRICS: 1})
    return KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)


def record(number: int, fields: dict[str, Any], *, task: str = "topic") -> tuple[bytes, bytes]:
    example = TaskExample(example_id=f"e{number}", task=task, fields=fields)
    return example.example_id.encode(), msgspec.json.encode(example)


async def send(kafka: KafkaConnection, records: list[tuple[bytes, bytes]]) -> None:
    async with Publisher(connection=kafka) as publisher:
        await publisher.send_keyed(TASKS_EXAMPLES, records)


async def everything(kafka: KafkaConnection, topic: str) -> list[bytes | None]:
    found: list[bytes | None] = []
    async with WholeReader(connection=kafka, topics=[topic]) as reader:
        async for batch in reader:
            found.extend(batch.values)
            if reader.caught_up.is_set() or await reader.lag() == 0:
                break
    return found


async def work(kafka: KafkaConnection, folder: Path, until: int, *, task: Task | None = None) -> TaskProcess:
    """Run a worker until it has read so many records, then stop it."""
    process = TaskProcess(
        connection=kafka, task=task or topic_task(), data_dir=folder, seed=0, config=CONFIG, learn=None
    )
    running = asyncio.create_task(process.run())
    try:
        async with asyncio.timeout(60):
            while not running.done() and not _read(process) >= until:
                await asyncio.sleep(0.05)
            process.stopping.set()
            await running
    finally:
        running.cancel()
        await process.close()
    return process


def _read(process: TaskProcess) -> int:
    counts = process.progress().get("counts", {})
    return sum(counts.get(name, 0) for name in ("predicted", "rejected", "of other tasks"))


async def test_examples_are_answered_before_they_are_learned_and_bad_ones_become_dead_letters(
    kafka: KafkaConnection, tmp_path: Path
):
    rows = topic_rows(120)
    bad = [(b"e200", b"{"), (b"wrong", record(201, {"title": "mug"})[1]), record(202, {"title": " "})]
    other = record(203, {"title": "mug"}, task="another")
    unlabelled = record(204, {"title": "old rake"})
    await send(kafka, [*(record(number, row) for number, row in enumerate(rows)), *bad, other, unlabelled])

    process = await work(kafka, tmp_path, until=125)

    assert process.progress()["counts"] == {
        "truncated": 0,
        "predicted": 121,
        "labelled": 120,
        "rejected": 3,
        "of other tasks": 1,
        "rounds": 3,
        "released": 3,
    }
    answers = [
        msgspec.json.decode(value or b"", type=TaskPrediction) for value in await everything(kafka, TASKS_PREDICTIONS)
    ]
    assert [answer.example_id for answer in answers] == [*(f"e{number}" for number in range(120)), "e204"]
    assert [answer.model_version for answer in answers] == [0] * 40 + [1] * 40 + [2] * 40 + [3]
    assert answers[-1].value == "garden"
    metrics = [msgspec.json.decode(value or b"", type=Metric) for value in await everything(kafka, QUALITY_METRICS)]
    assert [(metric.expert, metric.metric, metric.total_count) for metric in metrics] == [
        ("task:classify/topic", "accuracy", count) for count in (40, 80, 120)
    ]
    assert metrics[0].value < 0.8 < metrics[2].value  # knows nothing, then has learned
    right = sum(answer.value == row["topic"] for answer, row in zip(answers, rows, strict=False))
    assert metrics[2].total_value == pytest.approx(right / 120)
    assert await everything(kafka, DLQ) == [value for _, value in bad]


async def test_a_worker_that_was_killed_resumes_and_each_example_is_learned_once(
    kafka: KafkaConnection, tmp_path: Path
):
    rows = [record(number, row) for number, row in enumerate(topic_rows(100))]
    await send(kafka, rows[:50])
    killed = await work(kafka, tmp_path / "killed", until=50)
    await send(kafka, rows[50:])

    # What a kill leaves: answers and rounds that no checkpoint knows of.
    process = TaskProcess(
        connection=kafka, task=topic_task(), data_dir=tmp_path / "killed", seed=0, config=CONFIG, learn=None
    )
    process._write = lambda: None  # type: ignore[method-assign]
    running = asyncio.create_task(process.run())
    async with asyncio.timeout(60):
        while _read(process) < 100:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait({running})
    await process.close()
    del running, process
    with warnings.catch_warnings():  # a cancelled task leaves sockets behind, a killed process none
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

    resumed = await work(kafka, tmp_path / "killed", until=100)
    straight = await work(kafka, tmp_path / "straight", until=100)
    assert killed.progress()["counts"]["predicted"] == 50
    assert resumed.progress() == straight.progress()
    learned, expected = resumed._study.learner.model.learned(), straight._study.learner.model.learned()
    assert all((learned[name] == expected[name]).all() for name in expected)
    told: dict[str, set[Any]] = {}
    for value in await everything(kafka, TASKS_PREDICTIONS):
        answer = json.loads(value or b"")
        told.setdefault(answer["prediction_id"], set()).add((answer["example_id"], answer["value"]))
    assert len(told) == 100
    assert all(len(said) == 1 for said in told.values())


async def test_two_workers_of_one_task_do_not_share_a_folder(kafka: KafkaConnection, tmp_path: Path):
    first = TaskProcess(connection=kafka, task=topic_task(), data_dir=tmp_path, seed=0, config=CONFIG)
    first._take_lock()
    second = TaskProcess(connection=kafka, task=topic_task(), data_dir=tmp_path, seed=0, config=CONFIG)
    with pytest.raises(TaskBusyError, match="one worker per task"):
        await second.run()
    await second.close()
    await first.close()


async def test_a_checkpoint_of_another_declaration_is_refused(kafka: KafkaConnection, tmp_path: Path):
    await work(kafka, tmp_path, until=0)
    with pytest.raises(TaskChangedError, match="declared otherwise"):
        await work(kafka, tmp_path, until=0, task=topic_task(epochs=1))
