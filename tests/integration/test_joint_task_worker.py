"""Several tasks behind Kafka in one process: each answers and is judged for itself, and they learn in one round."""

import asyncio
import json
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from learners.tasks.errors import InvalidTaskError
from learners.tasks.joint import JointLearner
from learners.tasks.sharing import changing
from learners.tasks.task import Task
from streams.clients import KafkaConnection
from streams.events import Metric, TaskPrediction
from streams.learning.checkpoint import Checkpoints
from streams.task_process import TaskProcess
from streams.tasks.errors import TaskBusyError, TaskChangedError
from streams.tasks.study import TaskStudy
from streams.topics import QUALITY_METRICS, TASKS_EXAMPLES, TASKS_PREDICTIONS
from tests.brokers import EmbeddedBroker
from tests.integration.task_worker_harness import (
    DLQ,
    Record,
    everything,
    record,
    send,
    started,
    with_topics,
    work,
    work_for_nothing,
    worker,
)
from tests.learners.tasks.tasks_data import price_task, topic_rows, topic_task

SIZE = (
    'name = "size"\nkind = "score"\ninputs = ["title"]\ntarget = "size"\n'
    'text_encoder = "hash"\n[training]\nepochs = 2\n'
)
TOPIC = (
    'name = "topic"\nkind = "classify"\ninputs = ["title"]\ntarget = "topic"\nclasses = ["kitchen", "garden"]\n'
    'text_encoder = "hash"\n[training]\nepochs = 2\n'
)


QUICK = {"epochs": 8, "batch": 16, "learning_rate": 1e-2}


def size_task(**changed: Any) -> Task:
    """How long a title is; reads what `topic` reads."""
    values = {
        **topic_task(**QUICK).as_dict(),
        "name": "size",
        "kind": "score",
        "target": "size",
        "classes": (),
        **changed,
    }
    return Task.from_dict(values)


def both() -> list[Task]:
    return [topic_task(**QUICK), size_task()]


def records(count: int, *, start: int = 0) -> list[Record]:
    """Every third example is of `size`; both tasks read the same titles."""
    made = []
    for number, row in enumerate(topic_rows(start + count)[start:], start=start):
        sized = {"title": row["title"], "size": float(len(row["title"]))}
        made.append(record(number, sized, task="size") if number % 3 == 2 else record(number, row))
    return made


@pytest.fixture
def kafka(embedded_kafka: EmbeddedBroker) -> KafkaConnection:
    return with_topics(embedded_kafka)


async def answers(kafka: KafkaConnection) -> list[TaskPrediction]:
    values = await everything(kafka, TASKS_PREDICTIONS)
    return [msgspec.json.decode(value or b"", type=TaskPrediction) for value in values]


async def figures(kafka: KafkaConnection) -> list[Metric]:
    return [msgspec.json.decode(value or b"", type=Metric) for value in await everything(kafka, QUALITY_METRICS)]


def joint(process: TaskProcess) -> JointLearner:
    learner = process._study.learner
    assert isinstance(learner, JointLearner)
    return learner


async def test_each_task_is_answered_and_judged_and_all_learn_in_one_round(kafka: KafkaConnection, tmp_path: Path):
    bad = [record(300, {"title": "mug", "size": "large"}, task="size"), record(301, {"title": " "})]
    other = record(302, {"title": "mug"}, task="another")
    unlabelled = record(303, {"title": "old rake"}), record(304, {"title": "old rake"}, task="size")
    await send(kafka, [*records(180), *bad, other, *unlabelled])

    process = await work(kafka, tmp_path, 185, both(), share="trunk")

    assert process.progress()["counts"] == {
        "truncated": 0,
        "predicted": 182,
        "labelled": 180,
        "rejected": 2,
        "of other tasks": 1,
        "rounds": 3,
        "released": 3,
    }
    assert process.progress()["tasks"] == {
        "score/size": {"version": 3, "waiting": 0},
        "classify/topic": {"version": 3, "waiting": 0},
    }
    by_task: dict[str, list[TaskPrediction]] = defaultdict(list)
    for answer in await answers(kafka):
        by_task[answer.task].append(answer)
    assert {task: len(said) for task, said in by_task.items()} == {"topic": 121, "size": 61}
    assert [answer.example_id for answer in by_task["size"][:3]] == ["e2", "e5", "e8"]
    assert (by_task["topic"][-1].value, by_task["topic"][-1].model_version) == ("garden", 3)
    assert abs(float(by_task["size"][-1].value) - len("old rake")) < 3
    assert [answer.model_version for answer in by_task["size"]] == [0] * 20 + [1] * 20 + [2] * 20 + [3]
    found = await figures(kafka)
    assert [(each.expert, each.metric, each.total_count, each.interactions) for each in found] == [
        ("task:score/size", "absolute_error", 20, 60),
        ("task:classify/topic", "accuracy", 40, 60),
        ("task:score/size", "absolute_error", 40, 120),
        ("task:classify/topic", "accuracy", 80, 120),
        ("task:score/size", "absolute_error", 60, 180),
        ("task:classify/topic", "accuracy", 120, 180),
    ]
    assert found[4].value < found[0].value / 2  # before anything was learned every title is 0 long
    assert found[1].value < 0.8 < found[5].value
    assert await everything(kafka, DLQ) == [value for _, value in bad]


async def test_what_is_too_little_for_a_round_waits_for_the_next(kafka: KafkaConnection, tmp_path: Path):
    sized = [record(number, {"title": "mug", "size": 3.0}, task="size") for number in range(100, 103)]
    titles = [record(number, row) for number, row in enumerate(topic_rows(60))]
    await send(kafka, [*sized, *titles])

    first = await work(kafka, tmp_path, 63, both(), share="trunk")

    assert [(name, len(desk.waiting)) for name, desk in first._study.desks.items()] == [("size", 3), ("topic", 0)]
    assert joint(first).learners["topic"].version == 1
    assert joint(first).learners["size"].version == 0  # knows nothing yet, and takes part in no decision
    assert [each.expert for each in await figures(kafka)] == ["task:classify/topic"]

    await send(kafka, [record(300, {"title": "spade", "size": 5.0}, task="size"), *records(56, start=204)])
    second = await work(kafka, tmp_path, 120, both(), share="trunk")

    size = joint(second).learners["size"]
    assert second.progress()["counts"]["rounds"] == 2
    assert [len(desk.waiting) for desk in second._study.desks.values()] == [0, 0]
    assert len(size.memory) + len(size.exam) == 3 + 1 + 18  # those that waited, too


async def test_a_killed_worker_resumes_at_one_checkpoint_of_all_its_tasks(kafka: KafkaConnection, tmp_path: Path):
    await send(kafka, records(80))
    await work(kafka, tmp_path / "killed", 80, both(), share="trunk")
    await send(kafka, records(80, start=80))
    await work_for_nothing(kafka, tmp_path / "killed", 160, both(), share="trunk")

    resumed = await work(kafka, tmp_path / "killed", 160, [*reversed(both())], share="trunk")
    straight = await work(kafka, tmp_path / "straight", 160, both(), share="trunk")

    assert {**resumed.progress(), "lag": None} == {**straight.progress(), "lag": None}
    assert resumed.progress()["counts"]["rounds"] == 2
    learned, expected = (changing(joint(each)._models) for each in (resumed, straight))
    assert all(bool((learned[name] == expected[name]).all()) for name in expected)
    told = defaultdict(set)
    for answer in await answers(kafka):
        told[answer.prediction_id].add((answer.example_id, answer.task, answer.value))
    assert len(told) == 160
    assert all(len(said) == 1 for said in told.values())


async def test_a_worker_killed_with_9_again_and_again_learns_each_example_once(kafka: KafkaConnection, tmp_path: Path):
    (tmp_path / "topic.toml").write_text(TOPIC)
    (tmp_path / "size.toml").write_text(SIZE)
    declared = [tmp_path / "topic.toml", tmp_path / "size.toml", "--share", "trunk", "--round-examples", "20"]
    data, rng = tmp_path / "data", np.random.default_rng(0)
    sent = 0
    for _ in range(2):
        process = started(kafka, data, *declared)
        try:
            give_up_at = time.monotonic() + 120
            before = len(await everything(kafka, TASKS_PREDICTIONS)) if sent else 0
            while (len(await everything(kafka, TASKS_PREDICTIONS)) if sent else 0) < before + 60:
                assert process.poll() is None
                assert time.monotonic() < give_up_at
                await send(kafka, records(10, start=sent))
                sent += 10
                await asyncio.sleep(float(rng.uniform(0.0, 0.2)))
        finally:
            process.kill()
            process.wait()

    process = started(kafka, data, *declared)
    try:
        give_up_at = time.monotonic() + 120
        while len({answer.prediction_id for answer in await answers(kafka)}) < sent:
            assert process.poll() is None
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        process.kill()

    newest = Checkpoints(data / "tasks" / "joint" / "size,topic" / "checkpoints").newest()
    assert newest is not None
    assert newest[1].offsets == {TASKS_EXAMPLES: {0: sent}}
    tasks = [Task.from_toml(tmp_path / f"{name}.toml") for name in ("size", "topic")]
    study = TaskStudy.load(newest[0], tasks, share="trunk", round_examples=20)
    assert study.counts["labelled"] == study.counts["predicted"] == sent
    held = {
        name: len(desk.waiting) + len(desk.learner.memory) + len(desk.learner.exam)
        for name, desk in study.desks.items()
    }
    assert held == {"size": sum(number % 3 == 2 for number in range(sent)), "topic": held["topic"]}
    assert sum(held.values()) == sent
    told = defaultdict(set)
    for answer in await answers(kafka):
        told[answer.prediction_id].add((answer.example_id, answer.task))
    assert sorted(map(len, told.values())) == [1] * sent
    judged = defaultdict(set)
    for figure in await figures(kafka):
        judged[figure.metric_id].add((figure.expert, figure.value, figure.total_count))
    assert all(len(said) == 1 for said in judged.values())


async def test_a_checkpoint_of_other_declarations_or_another_share_is_refused(kafka: KafkaConnection, tmp_path: Path):
    await work(kafka, tmp_path, 0, both(), share="trunk")
    again = json.loads(json.dumps(size_task().as_dict()))
    again["training"]["weight_decay"] = 0.5
    with pytest.raises(TaskChangedError, match=r"tasks 'size', 'topic' \(share trunk\) declared otherwise"):
        await work(kafka, tmp_path, 0, [both()[0], Task.from_dict(again)], share="trunk")

    lora = {"encoder": "lora", "rank": 2}
    adapted = [Task.from_dict({**task.as_dict(), "training": {**lora}}) for task in both()]
    await work(kafka, tmp_path / "adapted", 0, adapted, share="trunk")
    with pytest.raises(TaskChangedError, match="share trunk"):
        await work(kafka, tmp_path / "adapted", 0, adapted, share="encoder")


def test_tasks_that_cannot_be_learned_jointly_are_refused_at_once(kafka: KafkaConnection, tmp_path: Path):
    with pytest.raises(InvalidTaskError, match="a frozen encoder has nothing to be learned jointly"):
        worker(kafka, tmp_path, both())
    with pytest.raises(InvalidTaskError, match="task's numbers is"):
        worker(kafka, tmp_path, [topic_task(), price_task()], share="trunk")
    assert not (tmp_path / "tasks").exists()


async def test_a_task_is_answered_by_one_worker_alone_or_with_others(kafka: KafkaConnection, tmp_path: Path):
    together, alone = worker(kafka, tmp_path, both(), share="trunk"), worker(kafka, tmp_path, [topic_task()])
    alone._take_locks()
    with pytest.raises(TaskBusyError, match="classify/topic"):
        await together.run()
    await together.close()
    await alone.close()
    names = [f"{letter * 99}" for letter in "abc"]
    long = worker(kafka, tmp_path, [size_task(name=name) for name in names], share="trunk")
    assert len(long._root().name) == 32
