"""Backbones, layers, losses and metrics of tasks, against what is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from learners.items.encoder import TextEncoder
from learners.tasks.backbones import HashBackbone, StateCache, open_backbone
from learners.tasks.config import HEADS, POOLINGS, HeadConfig
from learners.tasks.examples import Example
from learners.tasks.learner import TaskLearner
from learners.tasks.losses import Answers, contrastive, cross_entropy, focal, ranking, weighted_cross_entropy
from learners.tasks.metrics import auc, average_precision, macro_f1, spearman
from learners.tasks.model import TaskModel
from tests.learners.tasks.tasks_data import pair_rows, pair_task, topic_rows, topic_task

TEXTS = ["red mug", "a garden hose of twenty metres, with fittings", "红色马克杯"]


def test_an_untrained_attention_pooling_of_minilm_is_the_text_encoder() -> None:
    model = TaskModel(replace(topic_task(), text_encoder="minilm"), open_backbone("minilm"))
    with torch.inference_mode():
        pooled = torch.nn.functional.normalize(model.pooled(TEXTS), dim=-1).numpy()
    # states are remembered in half precision
    np.testing.assert_allclose(pooled, TextEncoder().encode(TEXTS), atol=2e-3)


def test_remembered_states_are_bounded_and_the_same_as_fresh_ones() -> None:
    backbone, cache = HashBackbone(width=8), StateCache(most_bytes=64)
    fresh, _ = StateCache().states(backbone, TEXTS, most=16)
    for _ in range(2):
        states, mask = cache.states(backbone, TEXTS, most=16)
        assert torch.equal(states, fresh)
    assert mask.sum(dim=1).tolist() == [2, 9, 5]  # a comma counts, and so does each Chinese letter
    assert cache._bytes <= 64


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("head", HEADS)
def test_every_pooling_and_head_learns(pooling: str, head: str) -> None:
    task = topic_task(epochs=12, learning_rate=1e-2)
    task = replace(task, head=replace(task.head, pooling=pooling, kind=head))
    learner = TaskLearner(task, seed=0)
    learner.learn(topic_rows(160))
    least = 0.4 if pooling == "first" else 0.9  # the first word says nothing here
    assert learner.evaluate(topic_rows(100, seed=9))["accuracy"] > least


def test_a_cosine_pair_has_no_head_to_learn() -> None:
    learner = TaskLearner(pair_task(head={"interaction": "cosine"}), seed=0)
    assert not any(name.startswith("head.") for name in learner.model.trained())
    assert learner.learn(pair_rows(100)).released


def test_disturbing_what_the_head_reads_makes_it_harder_to_mislead() -> None:
    losses = []
    for step in (0.0, 0.1):
        learner = TaskLearner(topic_task(adversarial=step, epochs=40, learning_rate=3e-3), seed=0)
        learner.learn(topic_rows(200))
        assert learner.evaluate(topic_rows(100, seed=9))["accuracy"] > 0.95
        examples = [each for each in map(learner.task.validate, topic_rows(60, seed=9)) if isinstance(each, Example)]
        labels = torch.tensor([int(each.label or 0) for each in examples])
        features = learner.model.features(examples).detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(learner.model.answer(features), labels)
        (towards,) = torch.autograd.grad(loss, features)
        unit = towards / towards.norm(dim=-1, keepdim=True)
        misled = features + 0.1 * features.norm(dim=-1, keepdim=True) * unit
        losses.append(torch.nn.functional.cross_entropy(learner.model.answer(misled), labels).item())
    assert losses[1] < losses[0]


def test_what_nothing_learns_in_front_of_the_head_can_be_disturbed_too() -> None:
    task = replace(
        topic_task(adversarial=0.1, epochs=20, learning_rate=4e-3), head=HeadConfig(pooling="mean", hidden=32)
    )
    learner = TaskLearner(task, seed=0)
    assert learner.learn(topic_rows(100)).released


@pytest.mark.parametrize("loss", ["weighted_cross_entropy", "focal"])
def test_rare_positives_are_found_by_losses_that_count_them_for_more(loss: str) -> None:
    rng = np.random.default_rng(0)
    rows = [row for row in topic_rows(1200) if row["topic"] == "kitchen" or rng.random() < 0.04]
    tasks = [topic_task(loss=name, epochs=2, learning_rate=4e-3) for name in ("cross_entropy", loss)]
    plain, weighted = (TaskLearner(task, seed=0) for task in tasks)
    for learner in (plain, weighted):
        assert learner.learn(rows).released
    fresh = [row for row in topic_rows(200, seed=9) if row["topic"] == "garden"]
    found = [sum(said.value == "garden" for said in learner.predict(fresh)) for learner in (plain, weighted)]
    assert found[1] > found[0]


def answers(outputs: list[list[float]] | list[float], labels: list[float], lefts: list[int]) -> Answers:
    said = torch.tensor(outputs)
    kind = torch.long if said.ndim == 2 else torch.float
    crossed = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    return Answers(
        outputs=said,
        labels=torch.tensor(labels, dtype=kind),
        weights=torch.tensor([0.5, 2.0]),
        lefts=torch.tensor(lefts),
        rights=torch.tensor([0, 1]),
        crossed=lambda: crossed,
    )


def test_losses_are_those_of_the_formulas() -> None:
    even = answers([[0.0, 0.0], [0.0, 0.0]], [0, 1], [0, 1])
    assert cross_entropy(even).item() == pytest.approx(np.log(2))
    assert weighted_cross_entropy(even).item() == pytest.approx(np.log(2))
    assert focal(even).item() == pytest.approx(np.log(2) / 4)  # (1 - 1/2)^2
    assert ranking(answers([2.0, 0.0], [1.0, -1.0], [0, 0])).item() == pytest.approx(np.log(1 + np.exp(-2)))
    assert ranking(answers([2.0, 0.0], [1.0, -1.0], [0, 1])).item() == 0  # different lefts are not compared
    assert contrastive(answers([0.0, 0.0], [1.0, 1.0], [0, 1])).item() == pytest.approx(
        np.log(1 + np.exp(-10)), rel=1e-2
    )


def test_metrics_are_those_of_the_formulas() -> None:
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    labels = np.array([0.0, 1.0, 0.0, 1.0])
    assert auc(chances, labels) == 0.75
    assert average_precision(chances, labels) == pytest.approx((1 + 2 / 3) / 2)
    assert macro_f1(chances, labels) == 0.5
    assert spearman(np.array([1.0, 2.0, 2.0, 9.0]), np.array([1.0, 2.0, 2.0, 3.0])) == pytest.approx(1.0)
    assert auc(chances, np.zeros(4)) == 0.5
