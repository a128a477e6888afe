"""Tasks that learn jointly start from what a like task left, if all of them are better off with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.knowledge.contents import decode_tensors
from learners.knowledge.store import KnowledgeStore
from learners.tasks.joint import JointLearner
from learners.tasks.joint_knowledge import deposit_jointly, first_joint_round, harms
from learners.tasks.knowledge import SCRATCH, deposit
from learners.tasks.learner import TaskLearner
from learners.tasks.sharing import changing
from learners.tasks.task import Task
from tests.learners.knowledge_data import open_store
from tests.learners.tasks.tasks_data import TOPICS, topic_rows, topic_task

LORA: dict[str, Any] = {"encoder": "lora", "rank": 2, "encoder_learning_rate": 1e-2}
Rows = list[dict[str, Any]]


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def newcomers(**training: Any) -> list[Task]:
    """Two tasks that have few examples: the topic again, and a weight that depends on it."""
    topic = topic_task(**{**LORA, "epochs": 1, **training})
    plain = topic.as_dict()
    weight = {**plain, "name": "weight", "kind": "score", "target": "weight", "classes": ()}
    return [Task.from_dict({**plain, "name": "abroad"}), Task.from_dict(weight)]


def rows_of(count: int, seed: int) -> Rows:
    """Kitchen things weigh 1, garden things 3."""
    weights = dict(zip(TOPICS, (1.0, 3.0), strict=True))
    return [{**row, "weight": weights[row["topic"]]} for row in topic_rows(count, seed=seed)]


def taught(store: KnowledgeStore) -> TaskLearner:
    learner = TaskLearner(topic_task(**LORA, epochs=10), seed=0)
    outcome = learner.learn(topic_rows(300))
    assert outcome.released, outcome.reason
    deposit(store, learner, outcome)
    return learner


@pytest.mark.parametrize("share", ["encoder", "trunk"])
def test_few_examples_of_two_tasks_start_from_a_like_one_and_both_are_better_for_it(share: str, store: KnowledgeStore):
    taught(store)
    few, many = rows_of(32, seed=5), rows_of(200, seed=9)
    scratch = JointLearner(newcomers(), seed=1, share=share)
    scratch.learn(few)
    reused = JointLearner(newcomers(), seed=1, share=share)

    outcomes, trial = first_joint_round(reused, few, store)

    assert all(outcome.released for outcome in outcomes.values()), outcomes
    assert trial.chosen.name.endswith("classify/topic for abroad")
    assert trial.gains[trial.chosen.name] > trial.gains[SCRATCH]
    found, before = reused.evaluate(many), scratch.evaluate(many)
    assert found["abroad"]["log_loss"] < before["abroad"]["log_loss"] / 2
    assert found["weight"]["rmse"] < before["weight"]["rmse"]
    kept = deposit_jointly(store, reused, outcomes, parents=trial.chosen.parents)
    assert kept == {"abroad": 2, "weight": 2}
    left = [entry for entry in store.entries() if entry.lineage.model != "topic"]
    assert all(set(trial.chosen.parents) <= set(entry.lineage.parents) for entry in left)
    adapters = [decode_tensors(store.read(entry.entry_id)) for entry in left if entry.kind == "adapter"]
    assert all(torch.equal(value, adapters[1][name]) for name, value in adapters[0].items())


def test_a_spoilt_donor_loses_the_trial_and_the_round_is_that_from_scratch(store: KnowledgeStore):
    learner = TaskLearner(topic_task(**LORA, epochs=10), seed=0)
    outcome = learner.learn(topic_rows(300))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in learner.model.trained().values():
            value.copy_(30 * value.flatten()[torch.randperm(value.numel(), generator=generator)].reshape(value.shape))
    deposit(store, learner, outcome)
    few = rows_of(60, seed=5)
    scratch, reused = (JointLearner(newcomers(), seed=1, share="trunk") for _ in range(2))
    scratch.learn(few)

    _, trial = first_joint_round(reused, few, store)

    assert {name.split(maxsplit=1)[-1] for name in trial.gains} == {
        "scratch",
        "classify/topic for abroad",
        "classify/topic for weight",
    }
    assert trial.chosen.name == SCRATCH
    learned, expected = changing(reused._models), changing(scratch._models)
    assert all(torch.equal(learned[name], value) for name, value in expected.items())


@pytest.mark.parametrize("share", ["encoder", "trunk"])
def test_a_first_joint_round_that_is_refused_leaves_all_as_they_were(share: str, store: KnowledgeStore):
    taught(store)
    learner = JointLearner(newcomers(), seed=1, share=share)
    before = {name: value.clone() for name, value in changing(learner._models).items()}
    rows, other = rows_of(60, seed=5), dict(zip(TOPICS, reversed(TOPICS), strict=True))
    turned = [{**row, "topic": other[row["topic"]]} if place >= 48 else row for place, row in enumerate(rows)]

    outcomes, trial = first_joint_round(learner, turned, store)  # what judges contradicts what is learned

    assert not any(outcome.released for outcome in outcomes.values())
    assert trial.chosen.name != SCRATCH
    after = changing(learner._models)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_empty_or_absent_store_and_tasks_of_too_few_examples_leave_the_round_as_it_is(
    store: KnowledgeStore,
):
    few = rows_of(40, seed=5)
    learner, scratch = (JointLearner(newcomers(), seed=1, share="trunk") for _ in range(2))
    outcomes, trial = first_joint_round(learner, few, store)
    assert {name: each.reason for name, each in outcomes.items()} == {
        name: each.reason for name, each in scratch.learn(few).items()
    }
    assert (trial.gains, trial.chosen.name) == ({}, SCRATCH)
    taught(store)
    learner = JointLearner(newcomers(), seed=1, share="trunk")
    outcomes, trial = first_joint_round(learner, {"abroad": few, "weight": few[:3]}, store)
    assert [outcome.version for outcome in outcomes.values()] == [1, 0]
    assert len(trial.gains) == 2  # the only task that looks for a start is the one that can learn
    assert not any(outcome.released for outcome in first_joint_round(learner, few[:3], store)[0].values())


def test_what_helps_one_task_and_harms_another_is_not_started_from():
    better, same, worse = np.linspace(0.8, 0.9, 9), np.linspace(0.1, 0.9, 9), np.linspace(-0.9, 0.1, 9)
    from_scratch = {"a": same, "b": same}
    assert not harms({"a": better, "b": same}, from_scratch)
    assert harms({"a": better, "b": worse}, from_scratch)
    assert harms({"a": better, "b": np.full(9, np.nan)}, from_scratch)
    noisy = same + np.resize([0.3, -0.31], 9) - 0.05
    assert not harms({"a": better, "b": noisy}, from_scratch)  # within a standard error
