"""One round's training of a task's model."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.errors import DivergedError
from learners.tasks.examples import Example
from learners.tasks.losses import LOSS_FUNCTIONS, Answers
from learners.tasks.model import TaskModel

_WARM_UP = 0.06  # of the steps
_BLOCK = 16  # batches within which examples are sorted by length
_MOST_WEIGHT = 20.0  # of a rare class


def train(
    model: TaskModel,
    examples: Sequence[Example],
    *,
    rng: np.random.Generator,
    epochs: int | None = None,
    extra: Callable[[], Tensor] | None = None,
) -> list[float]:
    """Train the model where it is; returns the loss of each step.

    Args:
        model: A copy that may be spoilt.
        examples: Checked and labelled, in any order.
        rng: Of the order of examples and of what is dropped.
        epochs: Passes; None: as the task says.
        extra: Added to each step's loss, e.g. to stay close to what was.

    Raises:
        DivergedError: If the loss stops being finite.
    """
    config, losses = model.task.training, []
    optimizer = optimizer_of(model)
    epochs = epochs or config.epochs
    steps = epochs * -(-len(examples) // config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    weights = class_weights(examples, len(model.task.classes))
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for _ in range(epochs):
            for batch in batches(model, examples, rng):
                loss = batch_loss(model, batch, weights)
                if extra is not None:
                    loss = loss + extra()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.trained().values(), config.max_grad_norm)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                if not np.isfinite(losses[-1]):
                    raise DivergedError(step=len(losses), loss=losses[-1])
    model.eval()
    return losses


def optimizer_of(model: TaskModel) -> torch.optim.Optimizer:
    """Return AdamW with one rate for the encoder's trained part and one for the rest."""
    config = model.task.training
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, value in model.trained().items():
        (encoder if name.startswith("adapter.") else rest).append(value)
    groups: list[dict[str, Any]] = [{"params": rest, "lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_rate})
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def batch_loss(model: TaskModel, batch: Sequence[Example], weights: Tensor) -> Tensor:
    """Return the loss of one batch, disturbed where the task asks for that."""
    config, loss_of = model.task.training, LOSS_FUNCTIONS[model.task.loss]
    features = model.features(batch)
    if config.adversarial and not features.requires_grad:  # a frozen encoder, and nothing learned in front of the head
        features = features.detach().requires_grad_()
    loss = loss_of(_answers(model, features, batch, weights))
    if not config.adversarial:
        return loss
    # Source: Miyato et al., "Adversarial Training Methods for Text Classification", ICLR 2017, equation 5
    (towards,) = torch.autograd.grad(loss, features, retain_graph=True)
    unit = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    step = config.adversarial * features.detach().norm(dim=-1, keepdim=True) * unit
    return (loss + loss_of(_answers(model, features + step, batch, weights))) / 2


def batches(model: TaskModel, examples: Sequence[Example], rng: np.random.Generator) -> Iterator[list[Example]]:
    """Yield all examples once, shuffled; batches hold alike lengths, or, where a loss compares, all of one left."""
    size, order = model.task.training.batch, rng.permutation(len(examples))
    if model.task.loss == "ranking":
        rank = {left: place for place, left in enumerate(dict.fromkeys(examples[row].texts[0] for row in order))}
        order = np.array(sorted(order, key=lambda row: rank[examples[row].texts[0]]))
    else:
        lengths = np.array([sum(map(len, example.texts)) for example in examples])
        blocks = [order[start : start + size * _BLOCK] for start in range(0, len(order), size * _BLOCK)]
        order = np.concatenate([block[np.argsort(lengths[block], kind="stable")] for block in blocks])
    starts = np.arange(0, len(order), size)
    for start in rng.permutation(starts):
        yield [examples[row] for row in order[start : start + size]]


def class_weights(examples: Sequence[Example], classes: int) -> Tensor:
    """Return the inverse of how often each class comes, 1 on average over examples, [C]; bounded.

    >>> class_weights([Example((), label=0.0)] * 3 + [Example((), label=1.0)], 2).tolist()
    [0.6666666865348816, 2.0]
    """
    if not classes:
        return torch.ones(1)
    counts = np.bincount([int(example.label or 0) for example in examples], minlength=classes)
    weights = len(examples) / (classes * np.maximum(counts, 1))
    return torch.tensor(np.minimum(weights, _MOST_WEIGHT), dtype=torch.float32)


def _answers(model: TaskModel, features: Tensor, batch: Sequence[Example], weights: Tensor) -> Answers:
    pair = model.task.kind == "pair"
    return Answers(
        outputs=model.answer(features),
        labels=_labels(model, batch),
        weights=weights,
        lefts=_numbered([example.texts[0] for example in batch] if pair else []),
        rights=_numbered([example.texts[1] for example in batch] if pair else []),
        crossed=lambda: _crossed(model, features),
    )


def _crossed(model: TaskModel, features: Tensor) -> Tensor:
    """What the model says of every left with every right, [B, B]."""
    left, right = features.chunk(2, dim=-1)
    count, width = left.shape
    every = torch.cat([left[:, None].expand(count, count, width), right[None].expand(count, count, width)], dim=-1)
    return model.answer(every.reshape(count * count, 2 * width)).reshape(count, count)


def _labels(model: TaskModel, batch: Sequence[Example]) -> Tensor:
    labels: Any = [example.label for example in batch]
    if model.task.kind == "classify":
        return torch.tensor(labels, dtype=torch.long)
    numbers = torch.tensor(labels, dtype=torch.float32)
    return numbers if model.task.loss == "binary" else (numbers - model.label_mean) / model.label_spread


def _numbered(texts: Sequence[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts], dtype=torch.long)


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: up in the first few steps, then down to zero.

    >>> [round(rate(step, 100), 2) for step in (0, 5, 6, 53, 100)]
    [0.17, 1.0, 1.0, 0.5, 0.0]
    """
    warm = max(round(_WARM_UP * steps), 1)
    return (step + 1) / warm if step < warm else max(steps - step, 0) / max(steps - warm, 1)
