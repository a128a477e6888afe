"""What holds of every way to share: where tasks are related and examples few, together is no worse than alone."""

from typing import Any

import numpy as np
import pytest

from learners.tasks.config import HeadConfig, TrainingConfig
from learners.tasks.joint import JointLearner
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task

WAYS = [("trunk", "frozen"), ("trunk", "lora"), ("encoder", "lora"), ("encoder", "full")]
WORDS = tuple(f"word{number}" for number in range(48))
SOFT = frozenset(np.random.default_rng(7).permutation(WORDS)[:24].tolist())


def related(encoder: str) -> list[Task]:
    """Two questions about one hidden property of a word: is it soft, and what does it cost (soft: 10, hard: 20)?"""
    training = TrainingConfig(
        encoder=encoder,  # type: ignore[arg-type]
        rank=8,
        encoder_learning_rate=1e-2,
        epochs=30,
        batch=8,
        learning_rate=3e-3,
    )
    common: dict[str, Any] = {
        "inputs": ("text",),
        "text_encoder": "hash",
        "training": training,
        "head": HeadConfig(hidden=32, dropout=0.0),
    }
    return [
        Task(name="touch", kind="classify", target="touch", classes=("soft", "hard"), **common),
        Task(name="price", kind="score", target="price", **common),
    ]


def about(words: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    order = np.random.default_rng(seed).permutation(words).tolist()
    return [
        {"text": word, "touch": "soft" if word in SOFT else "hard", "price": 10.0 if word in SOFT else 20.0}
        for word in order
    ]


@pytest.mark.parametrize(("share", "encoder"), WAYS)
def test_two_related_tasks_with_few_examples_are_not_worse_together_than_alone(share: str, encoder: str):
    met = {"touch": WORDS[:30], "price": WORDS[18:]}  # each task meets words that the other one does not
    examples = {name: about(words * 2, seed=1) for name, words in met.items()}
    tasks = related(encoder)
    joint, alone = JointLearner(tasks, seed=0, share=share), [TaskLearner(task, seed=0) for task in tasks]
    outcomes = joint.learn(examples)
    assert all(outcome.released for outcome in outcomes.values()), outcomes
    assert all(learner.learn(examples[learner.task.name]).released for learner in alone)

    everything = about(WORDS, seed=2)
    together = joint.evaluate(everything)
    apart = {learner.task.name: learner.evaluate(everything) for learner in alone}

    assert together["touch"]["accuracy"] >= apart["touch"]["accuracy"]
    assert together["price"]["rmse"] <= apart["price"]["rmse"]
