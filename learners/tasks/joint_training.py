"""Training of several tasks' tied models in turns: each step is a batch of one task.

Source: Liu et al., "Multi-Task Deep Neural Networks for Natural Language Understanding", ACL 2019, algorithm 1;
temperatures: Raffel et al., "Exploring the Limits of Transfer Learning", JMLR 21, 2020, section 3.5.2.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from learners.tasks.errors import TaskDivergedError
from learners.tasks.examples import Example
from learners.tasks.model import TaskModel
from learners.tasks.training import batch_loss, batches, class_weights, rate


def train_jointly(
    models: Sequence[TaskModel],
    examples: Sequence[Sequence[Example]],
    *,
    rng: np.random.Generator,
    temperature: float = 1.0,
    epochs: int | None = None,
) -> list[list[float]]:
    """Train tied models where they are; returns the losses of each one's own steps.

    What is shared learns at the rate of the first model that has it.

    Args:
        models: Copies that may be spoilt.
        examples: Of each model's task, checked and labelled, in any order; a task without any takes no turn.
        rng: Of turns, order of examples and what is dropped.
        temperature: 1: each task has the passes that it asks for; higher: tasks with few examples come more often, up
            to equally often; all together as many steps.
        epochs: Passes of each; None: as each task's training says.

    Raises:
        TaskDivergedError: If a task's loss stops being finite.
    """
    order = turns([_steps(model, rows, epochs) for model, rows in zip(models, examples, strict=True)], temperature, rng)
    optimizer = _optimizer_of(models)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, len(order)))
    weights = [
        class_weights(rows, len(model.task.classes)) if rows else torch.ones(1)
        for model, rows in zip(models, examples, strict=True)
    ]
    feeds = [_endless(model, rows, rng) for model, rows in zip(models, examples, strict=True)]
    losses: list[list[float]] = [[] for _ in models]
    for model in models:
        model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for step, place in enumerate(order, start=1):
            model = models[place]
            loss = batch_loss(model, next(feeds[place]), weights[place])
            optimizer.zero_grad(set_to_none=True)  # other tasks' heads have no gradient, so they stay as they are
            loss.backward()
            nn.utils.clip_grad_norm_(model.trained().values(), model.task.training.max_grad_norm)
            optimizer.step()
            schedule.step()
            losses[place].append(loss.item())
            if not np.isfinite(losses[place][-1]):
                raise TaskDivergedError(task=model.task.name, step=step, loss=losses[place][-1])
    for model in models:
        model.eval()
    return losses


def turns(steps: Sequence[int], temperature: float, rng: np.random.Generator) -> list[int]:
    """Return whose turn each step is.

    Args:
        steps: That each task asks for.
        temperature: Tasks come in proportion to their steps to the power of 1 / temperature; above 0.
        rng: Of the order.

    >>> rng = np.random.default_rng(0)
    >>> [np.bincount(turns([90, 10], temperature, rng)).tolist() for temperature in (1, 2, 1e9)]
    [[90, 10], [75, 25], [50, 50]]
    """
    asked = np.array(steps, dtype=np.float64)
    shares = np.where(asked > 0, asked, 1.0) ** (1 / temperature) * (asked > 0)
    wanted = shares / max(shares.sum(), 1e-12) * asked.sum()
    counts = np.floor(wanted + 1e-9).astype(int)
    for place in np.argsort(counts - wanted, kind="stable")[: int(asked.sum()) - counts.sum()]:
        counts[place] += 1  # largest remainders first
    order: list[int] = rng.permutation(np.repeat(np.arange(len(steps)), counts)).tolist()
    return order


def _steps(model: TaskModel, examples: Sequence[Example], epochs: int | None) -> int:
    config = model.task.training
    return (epochs or config.epochs) * -(-len(examples) // config.batch)


def _endless(model: TaskModel, examples: Sequence[Example], rng: np.random.Generator) -> Iterator[list[Example]]:
    while True:
        yield from batches(model, examples, rng)


def _optimizer_of(models: Sequence[TaskModel]) -> torch.optim.Optimizer:
    """AdamW, each parameter once; the encoder's part has the rate of the encoder."""
    seen: set[int] = set()
    groups: list[dict[str, Any]] = []
    for model in models:
        config = model.task.training
        parts: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for name, value in model.trained().items():
            if id(value) not in seen:
                seen.add(id(value))
                parts[name.startswith("adapter.")].append(value)
        for of_encoder, values in parts.items():
            learning_rate = config.encoder_rate if of_encoder else config.learning_rate
            if values:
                groups.append({"params": values, "lr": learning_rate, "weight_decay": config.weight_decay})
    return torch.optim.AdamW(groups)
