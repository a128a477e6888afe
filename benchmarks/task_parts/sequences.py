"""Ways to learn one task after another beside one encoder, and what is left of each in the end."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.task_parts.five_tasks import Lesson
from learners.knowledge.contents import decode_tensors
from learners.knowledge.store import KnowledgeStore
from learners.tasks.backbones import StateCache, open_backbone
from learners.tasks.examples import Example
from learners.tasks.judging import labels_of
from learners.tasks.knowledge import deposit, first_round
from learners.tasks.learner import TaskLearner
from learners.tasks.memory import ExampleMemory
from learners.tasks.metrics import accuracy
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import batch_loss, class_weights, train

Matrix = list[list[float]]
RATES: Mapping[str, float] = {"full": 1e-4, "lora": 1e-3}  # as `bench relevance` has them
REPLAYED = 16  # examples of former tasks beside each step
EXEMPLARS = 200  # kept of each former task


def naive(lessons: Sequence[Lesson], *, seed: int, store: KnowledgeStore, cache: StateCache) -> dict[str, Any]:
    """One encoder, fine-tuned whole on one task after the other; each task's head stays as it was left."""
    del store
    return _shared(lessons, "full", seed=seed, cache=cache, replay=False)


def naive_lora(lessons: Sequence[Lesson], *, seed: int, store: KnowledgeStore, cache: StateCache) -> dict[str, Any]:
    """One adapter, fine-tuned on one task after the other."""
    del store
    return _shared(lessons, "lora", seed=seed, cache=cache, replay=False)


def replayed(lessons: Sequence[Lesson], *, seed: int, store: KnowledgeStore, cache: StateCache) -> dict[str, Any]:
    """One adapter for all, with exemplars of the former tasks beside each step."""
    del store
    return _shared(lessons, "lora", seed=seed, cache=cache, replay=True)


def kept(lessons: Sequence[Lesson], *, seed: int, store: KnowledgeStore, cache: StateCache) -> dict[str, Any]:
    """An adapter and a head of each task's own in the store; each starts from the nearest, if the trial says so.

    What judges is read back from the store every time. Where the gate refuses a first round nothing is kept, and the
    most frequent class is what there is to say.
    """
    matrix: Matrix = []
    starts, refused = [], []
    for number, lesson in enumerate(lessons):
        task = _in_mode(lesson.task, "lora")
        learner = TaskLearner(task, seed=seed)
        outcome, trial = first_round(learner, lesson.learn, store, k=1)
        if outcome.released:
            deposit(store, learner, outcome, parents=trial.chosen.parents)
        else:
            refused.append(f"{task.name}: {outcome.reason}")
        starts.append(trial.chosen.name)
        matrix.append([_kept_accuracy(store, each, cache) for each in lessons[: number + 1]])
    return {"matrix": matrix, "starts": starts, "refused": refused}


def average_accuracy(matrix: Matrix) -> float:
    """Return the mean accuracy over all tasks after the last.

    >>> average_accuracy([[0.9], [0.5, 0.7]])
    0.6
    """
    return float(np.mean(matrix[-1]))


def backward_transfer(matrix: Matrix) -> float:
    """Return how much accuracy the former tasks gained since each was learned; below 0 is forgetting.

    >>> round(backward_transfer([[0.9], [0.5, 0.7]]), 3)
    -0.4

    Source: Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, equation 3.
    """
    last = matrix[-1]
    return float(np.mean([last[number] - matrix[number][number] for number in range(len(matrix) - 1)] or [0.0]))


def _shared(lessons: Sequence[Lesson], mode: str, *, seed: int, cache: StateCache, replay: bool) -> dict[str, Any]:
    models: list[TaskModel] = []
    memories: list[list[Example]] = []
    matrix: Matrix = []
    rng = np.random.default_rng(seed)
    for number, lesson in enumerate(lessons):
        model = _model(_in_mode(lesson.task, mode), seed=seed, cache=cache)
        if models:
            model.adapter = models[0].adapter
        models.append(model)
        examples = _examples(model.task, lesson)
        extra = _rehearsal(models[:-1], memories, rng) if replay and memories else None
        train(model, examples, rng=np.random.default_rng([seed, number]), extra=extra)
        memory = ExampleMemory(capacity=EXEMPLARS, strata=len(model.task.classes))
        memory.add(examples, rng)
        memories.append(memory.examples())
        matrix.append([_accuracy(each, told) for each, told in zip(models, lessons, strict=False)])
    return {"matrix": matrix}


def _rehearsal(
    models: Sequence[TaskModel], memories: Sequence[Sequence[Example]], rng: np.random.Generator
) -> Callable[[], Tensor]:
    """Return what adds the loss of a few exemplars of one former task, another each time; their heads stay."""
    weights = [class_weights(memory, len(model.task.classes)) for model, memory in zip(models, memories, strict=True)]
    for model in models:
        for part in (model.pooling, model.head):
            part.requires_grad_(requires_grad=False)

    def rehearse() -> Tensor:
        chosen = int(rng.integers(len(models)))
        memory = memories[chosen]
        rows = rng.choice(len(memory), size=min(REPLAYED, len(memory)), replace=False)
        return len(models) * batch_loss(models[chosen], [memory[row] for row in rows], weights[chosen]) / 2

    return rehearse


def _model(task: Task, *, seed: int, cache: StateCache) -> TaskModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TaskModel(task, open_backbone(task.text_encoder), cache=cache)


def _kept_accuracy(store: KnowledgeStore, lesson: Lesson, cache: StateCache) -> float:
    task = _in_mode(lesson.task, "lora")
    model = _model(task, seed=0, cache=cache)
    learned: dict[str, Tensor] = {}
    for entry in store.entries(task=task.key):
        learned |= decode_tensors(store.read(entry.entry_id))
    if not learned:
        labels = Counter(row["label"] for row in lesson.learn)
        return float(np.mean([row["label"] == labels.most_common(1)[0][0] for row in lesson.test]))
    model.restore(learned)
    return _accuracy(model, lesson)


def _accuracy(model: TaskModel, lesson: Lesson) -> float:
    examples = [each for each in map(model.task.validate, lesson.test) if isinstance(each, Example)]
    return accuracy(model.scores(examples), labels_of(examples))


def _examples(task: Task, lesson: Lesson) -> list[Example]:
    return [each for each in map(task.validate, lesson.learn) if isinstance(each, Example)]


def _in_mode(task: Task, mode: str) -> Task:
    rate = task.training.encoder_learning_rate or RATES[mode]
    training = replace(task.training, encoder=mode, encoder_learning_rate=rate)  # type: ignore[arg-type]
    return replace(task, training=training)


SEQUENCES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "naive fine-tuning": naive,
    "store": kept,
    "LoRA with replay": replayed,
    "naive LoRA": naive_lora,
}
