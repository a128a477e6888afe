"""Several tasks over one trunk, learned together: what one task learns, the others have, too.

Built from the parts of `learners.tasks`: each task keeps its own last layer; encoder, adapter, pooling and hidden
layers are one and the same for all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.tasks.backbones import StateCache, open_backbone
from learners.tasks.examples import Example
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import batch_loss, class_weights

Rows = Sequence[Mapping[str, Any]]


def tied(tasks: Sequence[Task], *, seed: int, cache: StateCache | None = None) -> list[TaskModel]:
    """Return untrained models that share everything but their last layers.

    Args:
        tasks: With the same inputs, numbers, encoder and head; kinds, targets and losses may differ.
        seed: Of the first weights.
        cache: Of the frozen encoder's states, where other models read the same texts; None: one of their own.
    """
    encoder, cache = open_backbone(tasks[0].text_encoder), cache or StateCache()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = [TaskModel(task, encoder, cache=cache) for task in tasks]
    first = models[0]
    for model in models[1:]:
        model.adapter, model.pooling = first.adapter, first.pooling
        shared, own = list(first.head.children())[:-1], list(model.head.children())[-1]
        model.head = nn.Sequential(*shared, own)
    return models


def learn_jointly(models: Sequence[TaskModel], rows: Rows, *, seed: int) -> None:
    """Train tied models on the same rows; a row without a task's label teaches the others only.

    Args:
        models: Of `tied`, or one alone; the first one's task says how to train.
        rows: Field -> value.
        seed: Of the order.
    """
    config, rng = models[0].task.training, np.random.default_rng(seed)
    labelled = [[model.task.validate(row) for row in rows] for model in models]
    for model, examples in zip(models, labelled, strict=True):
        if usable := _usable(examples):
            model.standardise(usable)
    weights = [
        class_weights(_usable(examples), len(model.task.classes))
        for model, examples in zip(models, labelled, strict=True)
    ]
    different = {id(value): value for model in models for value in model.trained().values()}
    optimizer = torch.optim.AdamW(different.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * -(-len(rows) // config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for places in _batches(len(rows), config.batch, config.epochs, rng):
            losses: list[Tensor] = []
            for model, examples, weight in zip(models, labelled, weights, strict=True):
                model.train()
                batch = _usable([examples[place] for place in places])
                if batch:
                    losses.append(batch_loss(model, batch, weight))
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            nn.utils.clip_grad_norm_(different.values(), config.max_grad_norm)
            optimizer.step()
            schedule.step()
    for model in models:
        model.eval()


def scores(model: TaskModel, rows: Rows) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return chances [n, C] or numbers [n] of rows, whose labels need not be there."""
    return model.scores(_usable([model.task.validate(row, labelled=False) for row in rows]))


def _usable(examples: Sequence[object]) -> list[Example]:
    return [example for example in examples if isinstance(example, Example)]


def _batches(count: int, size: int, epochs: int, rng: np.random.Generator) -> Iterator[np.ndarray[Any, Any]]:
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[start : start + size] for start in range(0, count, size))
