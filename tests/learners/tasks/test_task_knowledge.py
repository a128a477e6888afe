"""What a task learned goes into the store, and another task starts from it if that helps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from learners.knowledge.contents import decode_tensors, encode_tensors
from learners.knowledge.store import KnowledgeStore
from learners.tasks.knowledge import SCRATCH, deposit, first_round, notes_of, starts_from
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task
from tests.learners.knowledge_data import open_store
from tests.learners.tasks.tasks_data import pair_rows, pair_task, topic_rows, topic_task

LORA: dict[str, Any] = {"encoder": "lora", "rank": 2, "encoder_learning_rate": 1e-2}


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def taught(task: Task, rows: list[dict[str, Any]], store: KnowledgeStore) -> TaskLearner:
    learner = TaskLearner(task, seed=0)
    outcome = learner.learn(rows)
    assert outcome.released, outcome.reason
    deposit(store, learner, outcome, offsets={"0": len(rows)})
    return learner


def renamed(task: Task, name: str) -> Task:
    return Task.from_dict({**task.as_dict(), "name": name})


def test_a_released_round_leaves_adapter_and_head_with_lineage_and_worth(store: KnowledgeStore):
    learner = taught(topic_task(**LORA), topic_rows(200), store)
    entries = {entry.kind: entry for entry in store.entries()}
    assert set(entries) == {"adapter", "head"}
    for entry in entries.values():
        assert (entry.lineage.task, entry.lineage.model_version) == ("classify/topic", 1)
        assert (entry.privacy, dict(entry.lineage.offsets)) == ("shop", {"0": 200})
        assert entry.worth["accuracy"] > 0.9
        assert len(entry.embedding) == 64 + 6
        assert dict(entry.lineage.notes).items() >= notes_of(learner).items()
    adapter = decode_tensors(store.read(entries["adapter"].entry_id))
    assert adapter
    assert all(name.startswith("adapter.") and "lora" in name for name in adapter)


def test_the_same_round_deposited_twice_is_kept_once_and_the_next_names_its_parents(store: KnowledgeStore):
    learner = TaskLearner(topic_task(**LORA), seed=0)
    outcome = learner.learn(topic_rows(200))
    first = deposit(store, learner, outcome)
    assert deposit(store, learner, outcome) == first
    second = deposit(store, learner, learner.learn(topic_rows(100, seed=1)))
    assert learner.version == 2
    assert [entry.lineage.parents for entry in second] == [(entry.entry_id,) for entry in first]


def test_a_frozen_encoder_leaves_a_head_alone(store: KnowledgeStore):
    taught(topic_task(), topic_rows(100), store)
    assert [entry.kind for entry in store.entries()] == ["head"]


def test_a_new_task_of_few_examples_starts_from_a_like_one_and_is_better_for_it(store: KnowledgeStore):
    taught(topic_task(**LORA, epochs=10), topic_rows(300), store)
    few, many = topic_rows(16, seed=5), topic_rows(200, seed=9)
    new = renamed(topic_task(**LORA, epochs=1), "topic-abroad")
    scratch = TaskLearner(new, seed=1)
    scratch.learn(few)
    reused = TaskLearner(new, seed=1)
    outcome, trial = first_round(reused, few, store)
    assert outcome.released
    assert trial.chosen.name.endswith("classify/topic")
    assert trial.gains[trial.chosen.name] > trial.gains[SCRATCH]
    assert reused.evaluate(many)["log_loss"] < scratch.evaluate(many)["log_loss"] / 2


def test_a_shuffled_donor_is_refused_by_the_trial(store: KnowledgeStore):
    task = topic_task(**LORA, epochs=10)
    learner = taught(task, topic_rows(300), store)
    right = {entry.kind: entry for entry in store.entries()}
    generator = torch.Generator().manual_seed(0)
    for entry in right.values():
        tensors = decode_tensors(store.read(entry.entry_id))
        spoilt = {
            name: 30 * value.flatten()[torch.randperm(value.numel(), generator=generator)].reshape(value.shape)
            for name, value in tensors.items()
        }
        store.deposit(
            encode_tensors(spoilt),
            kind=entry.kind,
            lineage=type(entry.lineage)(
                task="classify/wrong", model="wrong", model_version=1, notes=dict(entry.lineage.notes)
            ),
            privacy="shop",
            worth=entry.worth,
            embedding=entry.embedding,
        )
    new = TaskLearner(renamed(task, "new"), seed=1)
    _, trial = first_round(new, topic_rows(60, seed=5), store, k=2)
    assert {name.split()[-1] for name in trial.gains} == {"scratch", "classify/topic", "classify/wrong"}
    assert not trial.chosen.name.endswith("classify/wrong")
    assert learner.version == 1


def test_only_what_fits_the_encoder_and_its_additions_is_a_candidate(store: KnowledgeStore):
    taught(topic_task(**LORA), topic_rows(100), store)
    other = TaskLearner(renamed(topic_task(encoder="lora", rank=4), "other"), seed=0)
    examples = [each for each in map(other.task.validate, topic_rows(20)) if hasattr(each, "label")]
    assert starts_from(store, other, examples) == []


def test_an_adapter_serves_a_task_of_another_kind_whose_head_is_its_own(store: KnowledgeStore):
    taught(topic_task(**LORA), topic_rows(200), store)
    learner = TaskLearner(pair_task(training=LORA), seed=0)
    outcome, trial = first_round(learner, pair_rows(200), store)
    assert outcome.released
    assert len(trial.gains) == 2


def test_a_first_round_that_is_refused_leaves_the_learner_as_it_was(store: KnowledgeStore):
    taught(topic_task(**LORA, epochs=10), topic_rows(300), store)
    learner = TaskLearner(renamed(topic_task(**LORA), "new"), seed=1)
    before = learner.model.learned()
    rows = topic_rows(60, seed=5)
    other = {"kitchen": "garden", "garden": "kitchen"}
    turned = [{**row, "topic": other[row["topic"]]} if place >= 48 else row for place, row in enumerate(rows)]

    outcome, trial = first_round(learner, turned, store)  # what judges contradicts what is learned

    assert (outcome.released, trial.chosen.name.endswith("classify/topic")) == (False, True)
    after = learner.model.learned()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    _, again = first_round(learner, rows, store)
    fresh = TaskLearner(learner.task, seed=1)
    assert again.gains[SCRATCH] == first_round(fresh, rows, store)[1].gains[SCRATCH]


def test_an_artifact_store_that_does_not_answer_stops_no_task_from_learning(store: KnowledgeStore, tmp_path: Path):
    taught(topic_task(**LORA), topic_rows(100), store)
    (tmp_path / "artifacts").rename(tmp_path / "elsewhere")
    (tmp_path / "artifacts").write_bytes(b"no folder")
    learner = TaskLearner(renamed(topic_task(**LORA), "new"), seed=0)
    outcome, trial = first_round(learner, topic_rows(60), store)
    assert outcome.released
    assert set(trial.gains) == {SCRATCH}


def test_a_damaged_donor_is_left_out(store: KnowledgeStore, tmp_path: Path):
    taught(topic_task(**LORA), topic_rows(100), store)
    for file in (tmp_path / "artifacts").rglob("*"):
        if file.is_file():
            file.write_bytes(b"spoilt")
    learner = TaskLearner(renamed(topic_task(**LORA), "new"), seed=0)
    _, trial = first_round(learner, topic_rows(60), store)
    assert set(trial.gains) == {SCRATCH}
