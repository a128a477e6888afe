"""What task workers leave in the knowledge store says up to where it was learned, and says the same after a kill."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.composition import learn_and_keep
from learners.knowledge.store import KnowledgeStore
from learners.tasks.learner import Offsets, TaskLearner
from learners.tasks.task import Task
from streams.batches import RecordBatch
from streams.reader import WholeReader
from streams.tasks.study import Learn, TaskStudy, learn_round
from streams.topics import TASKS_EXAMPLES, USERS_ERASURES
from tests.brokers import EmbeddedBroker
from tests.integration.task_worker_harness import Record, record, send, with_topics, work, work_for_nothing
from tests.learners.knowledge_data import open_store
from tests.learners.tasks.tasks_data import topic_rows, topic_task

TASKS = [topic_task()]
QUICK = {"epochs": 8, "batch": 16, "learning_rate": 1e-2}


def both() -> list[Task]:
    size = {**topic_task(**QUICK).as_dict(), "name": "size", "kind": "score", "target": "size", "classes": ()}
    return [topic_task(**QUICK), Task.from_dict(size)]


def records(count: int, *, start: int = 0, **more: Any) -> list[Record]:
    return [record(start + number, row, **more) for number, row in enumerate(topic_rows(start + count)[start:])]


def sized(count: int, *, start: int) -> list[Record]:
    rows = topic_rows(count, seed=1)
    made = [{"title": row["title"], "size": float(len(row["title"]))} for row in rows]
    return [record(start + number, row, task="size") for number, row in enumerate(made)]


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(database_url, tmp_path / "artifacts")


def keeping(store: KnowledgeStore) -> Learn:
    return partial(learn_and_keep, store=store)


def said(store: KnowledgeStore) -> dict[tuple[str, int | None], Mapping[str, int]]:
    """Offsets by task and version; adapter and head of one version say the same."""
    found: dict[tuple[str, int | None], Mapping[str, int]] = {}
    for entry in store.entries():
        lineage = entry.lineage
        assert found.setdefault((lineage.task, lineage.model_version), lineage.offsets) == lineage.offsets
    return found


def ids(store: KnowledgeStore) -> list[str]:
    return sorted(entry.entry_id for entry in store.entries())


async def test_a_deposit_names_the_offset_after_the_last_example_that_a_round_was_given(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    others = [record(900, {"title": "mug"}), record(901, {"title": " "}), record(902, {"title": "mug"}, task="another")]
    await send(kafka, [*records(40), *others, *records(45, start=40), *others])

    process = await work(kafka, tmp_path, 91, TASKS, learn=keeping(store))

    assert process.progress()["counts"]["rounds"] == 2
    assert said(store) == {("classify/topic", 1): {"0": 40}, ("classify/topic", 2): {"0": 83}}  # 5 wait


async def test_a_deposit_names_every_partition_that_its_task_learned_from(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka, partitions=3)
    await send(kafka, records(120))
    ends: dict[str, int] = {}
    async with WholeReader(connection=kafka, topics=[TASKS_EXAMPLES]) as reader:
        async for batch in reader:
            ends[str(batch.partition)] = batch.next_offset
            if sum(ends.values()) == 120:
                break

    process = await work(kafka, tmp_path, 120, TASKS, learn=keeping(store))

    assert len(ends) == 3
    assert process._study.desks["topic"].offsets == ends
    found = list(
        said(store).values()
    )  # which come first of several partitions is Kafka's choice, and with it who passes
    assert found
    assert all(sum(offsets.values()) in {40, 80, 120} and offsets.keys() <= ends.keys() for offsets in found)


async def test_rounds_that_a_kill_undid_leave_the_same_entries_again(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    await send(kafka, records(50))
    await work(kafka, tmp_path, 50, TASKS, learn=keeping(store))
    await send(kafka, records(80, start=50))
    await work_for_nothing(kafka, tmp_path, 130, TASKS, learn=keeping(store))
    left = ids(store)

    process = await work(kafka, tmp_path, 130, TASKS, learn=keeping(store))

    assert process.progress()["counts"]["rounds"] == 3
    assert ids(store) == left
    assert said(store) == {("classify/topic", version): {"0": 40 * version} for version in (1, 2, 3)}


async def test_a_first_round_that_a_kill_undid_leaves_the_same_entries_again(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    await send(kafka, records(90))
    await work_for_nothing(kafka, tmp_path, 90, TASKS, learn=keeping(store))
    left = ids(store)

    await work(kafka, tmp_path, 90, TASKS, learn=keeping(store))

    assert ids(store) == left


async def test_each_of_several_tasks_names_its_own_offsets_also_after_a_kill(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    first = [*records(18), *sized(42, start=18)]
    few = [*sized(3, start=60), *records(60, start=63)]  # three are too few for a round, and wait
    await send(kafka, [*first, *few])
    learn = {"share": "trunk", "learn": keeping(store)}
    await work(kafka, tmp_path, 60, both(), **learn)
    await work_for_nothing(kafka, tmp_path, 123, both(), **learn)
    left = ids(store)

    process = await work(kafka, tmp_path, 123, both(), **learn)

    assert process.progress()["counts"]["released"] == 2
    assert ids(store) == left
    assert said(store) == {
        ("classify/topic", 1): {"0": 18},
        ("score/size", 1): {"0": 60},
        ("classify/topic", 2): {"0": 123},
        ("score/size", 2): {"0": 60},
    }


async def test_a_first_joint_round_that_a_kill_undid_leaves_the_same_entries_again(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    await send(kafka, [*records(18), *sized(42, start=18), *records(60, start=60)])
    learn = {"share": "trunk", "learn": keeping(store)}
    await work_for_nothing(kafka, tmp_path, 120, both(), **learn)
    left = ids(store)

    await work(kafka, tmp_path, 120, both(), **learn)

    assert len(left) == 4  # a frozen encoder leaves heads only
    assert ids(store) == left


async def test_after_a_checkpoint_without_offsets_those_of_later_examples_are_named(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    kafka = with_topics(embedded_kafka)
    await send(kafka, records(50))
    await work(kafka, tmp_path, 50, TASKS, learn=keeping(store))
    (path,) = (tmp_path / "tasks" / "classify" / "topic" / "checkpoints").glob("*/learner/study.json")
    state = json.loads(path.read_text())
    del state["tasks"]["topic"]["places"], state["tasks"]["topic"]["offsets"]
    path.write_text(json.dumps(state))
    await send(kafka, records(30, start=50))

    await work(kafka, tmp_path, 80, TASKS, learn=keeping(store))

    assert said(store) == {("classify/topic", 1): {"0": 40}, ("classify/topic", 2): {"0": 80}}


async def test_offsets_of_another_kafka_are_not_mixed_in(
    embedded_kafka: EmbeddedBroker, store: KnowledgeStore, tmp_path: Path
):
    before = with_topics(embedded_kafka)
    await send(before, records(50))
    await work(before, tmp_path, 50, TASKS, learn=keeping(store))
    broker = EmbeddedBroker()
    try:
        after = with_topics(broker)
        await send(after, records(30, start=50))
        await work(after, tmp_path, 80, TASKS, learn=keeping(store))
    finally:
        broker.close()

    assert said(store) == {("classify/topic", 1): {"0": 40}, ("classify/topic", 2): {"0": 30}}


def test_who_is_forgotten_while_waiting_or_before_arriving_leaves_the_same_offsets():
    said: list[Offsets] = []

    def learn(learner: Any, examples: Any, offsets: Offsets) -> Any:
        said.append(offsets)
        return learn_round(learner, examples, offsets)

    *nobodys, last = records(8)
    hers = record(7, {"title": "mug", "topic": "kitchen"}, user_id="ada")
    asked = [(b"ada", b'{"user_id": "ada", "requested_at": "2026-01-01T00:00:00Z"}')]
    for order in ("example", "request"), ("request", "example"):
        study = TaskStudy(TaskLearner(TASKS[0], seed=0), round_examples=8, learn=learn)
        for what in order:
            if what == "request":
                study.take_erasures(run_of(USERS_ERASURES, 0, asked))
            else:
                study.take(run_of(TASKS_EXAMPLES, 1, [*nobodys[:3], hers]))
        study.take(run_of(TASKS_EXAMPLES, 0, [*nobodys[3:], last]))
    assert said == [{"topic": {"0": 5, "1": 3}}] * 2


def run_of(topic: str, partition: int, records: list[Record]) -> RecordBatch:
    """Records from offset 0 on, appended in 1970."""
    keys, values = zip(*records, strict=True)
    return RecordBatch(
        topic=topic,
        partition=partition,
        offsets=list(range(len(records))),
        keys=list(keys),
        values=list(values),
        timestamps_ms=[0] * len(records),
    )
