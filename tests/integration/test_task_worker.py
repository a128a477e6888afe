"""A task behind Kafka: answers before it learns, learns in rounds, and forgets nothing when it is killed."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.clients import KafkaConnection
from streams.events import Metric, TaskPrediction
from streams.learning.checkpoint import Checkpoints
from streams.tasks.errors import TaskBusyError, TaskChangedError
from streams.topics import QUALITY_METRICS, TASKS_EXAMPLES, TASKS_PREDICTIONS
from tests.brokers import EmbeddedBroker
from tests.integration.task_worker_harness import (
    DLQ,
    everything,
    record,
    send,
    started,
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


async def test_examples_are_answered_before_they_are_learned_and_bad_ones_become_dead_letters(
    kafka: KafkaConnection, tmp_path: Path
):
    rows = topic_rows(120)
    bad = [(b"e200", b"{"), (b"wrong", record(201, {"title": "mug"})[1]), record(202, {"title": " "})]
    other = record(203, {"title": "mug"}, task="another")
    unlabelled = record(204, {"title": "old rake"})
    await send(kafka, [*(record(number, row) for number, row in enumerate(rows)), *bad, other, unlabelled])

    process = await work(kafka, tmp_path, 125, TASKS)

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
    killed = await work(kafka, tmp_path / "killed", 50, TASKS)
    await send(kafka, rows[50:])

    await work_for_nothing(kafka, tmp_path / "killed", 100, TASKS)
    resumed = await work(kafka, tmp_path / "killed", 100, TASKS)
    straight = await work(kafka, tmp_path / "straight", 100, TASKS)
    assert killed.progress()["counts"]["predicted"] == 50
    # how much waits in Kafka is asked once a second, so that the figure may be of before the last records
    said, wanted = ({**process.progress(), "lag": None} for process in (resumed, straight))
    assert said == wanted
    learned, expected = resumed._study.learner.model.learned(), straight._study.learner.model.learned()
    assert all((learned[name] == expected[name]).all() for name in expected)
    told: dict[str, set[Any]] = {}
    for value in await everything(kafka, TASKS_PREDICTIONS):
        answer = json.loads(value or b"")
        told.setdefault(answer["prediction_id"], set()).add((answer["example_id"], answer["value"]))
    assert len(told) == 100
    assert all(len(said) == 1 for said in told.values())


async def test_two_workers_of_one_task_do_not_share_a_folder(kafka: KafkaConnection, tmp_path: Path):
    first, second = worker(kafka, tmp_path, TASKS), worker(kafka, tmp_path, TASKS)
    first._take_locks()
    with pytest.raises(TaskBusyError, match="one worker per task"):
        await second.run()
    await second.close()
    await first.close()


async def test_a_checkpoint_of_another_declaration_is_refused(kafka: KafkaConnection, tmp_path: Path):
    await work(kafka, tmp_path, 0, TASKS)
    with pytest.raises(TaskChangedError, match="declared otherwise"):
        await work(kafka, tmp_path, 0, [topic_task(epochs=1)])


async def test_a_checkpoint_from_before_tasks_were_learned_jointly_is_read(kafka: KafkaConnection, tmp_path: Path):
    rows = topic_rows(60)
    await send(kafka, [record(number, row) for number, row in enumerate(rows[:50])])
    written = await work(kafka, tmp_path, 50, TASKS)
    (state,) = (tmp_path / "tasks" / "classify" / "topic" / "checkpoints").glob("*/learner/study.json")
    new = json.loads(state.read_text())
    flat = new["tasks"]["topic"]
    assert flat.pop("window_count") == len(flat["waiting"]) == 10
    assert (flat.pop("places"), flat.pop("offsets")) == ([[0, offset] for offset in range(40, 50)], {"0": 40})
    state.write_text(json.dumps({"counts": new["counts"], **flat, "waiting": rows[40:50]}))

    read = await work(kafka, tmp_path, 50, TASKS)

    expected = {**written._study.desks["topic"].get_state(), "places": [None] * 10, "offsets": {}}
    assert read._study.desks["topic"].get_state() == expected
    assert read.progress()["counts"] == written.progress()["counts"]


async def test_sigterm_ends_a_worker_with_a_checkpoint_of_all_that_it_answered(kafka: KafkaConnection, tmp_path: Path):
    declaration = tmp_path / "topic.toml"
    declaration.write_text(
        'name = "topic"\nkind = "classify"\ninputs = ["title"]\ntarget = "topic"\nclasses = ["kitchen", "garden"]\n'
        'text_encoder = "hash"\n'
    )
    await send(kafka, [record(number, row) for number, row in enumerate(topic_rows(20))])
    process = started(kafka, tmp_path / "data", declaration)
    try:
        give_up_at = time.monotonic() + 120
        while len(await everything(kafka, TASKS_PREDICTIONS)) < 20:
            assert process.poll() is None
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        process.kill()
    newest = Checkpoints(tmp_path / "data" / "tasks" / "classify" / "topic" / "checkpoints").newest()
    assert newest is not None
    assert newest[1].offsets == {TASKS_EXAMPLES: {0: 20}}
