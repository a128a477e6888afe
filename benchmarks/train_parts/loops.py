"""The loops that are compared: the commonly copied one, its habits turned off one after the other, and ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.static import Sequences
from learners.model import ModelConfig, SharedModel
from learners.rounds.material import Batching, RoundConfig
from learners.rounds.rows import Rows
from learners.rounds.training import Trainer
from learners.strategies import strategy_named

PLAIN, MIXED, OURS = "plain PyTorch loop", "ours, batches of mixed length", "ours, batches of alike length"
EVEN = "ours, alike length, equally many targets"
SAMPLED = "ours, alike length, equally many targets, sampled softmax"
Watch = Callable[[Trainer, int], None]  # told of each step that was taken: whose, and its number from 1


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    steps: int  # per repeat
    longer: int  # steps of the plain loop that set the loss to reach: enough to have learned something
    reach: int  # steps in which ours may reach it
    every: int  # steps between two looks at the loss
    batch_rows: int
    repeats: int
    held_out: int
    matrix: int  # side of the square matrices that measure the limit
    negatives: int
    config: ModelConfig


FULL = Size(
    steps=6,
    longer=80,
    reach=160,
    every=4,
    batch_rows=64,
    repeats=3,
    held_out=1_000,
    matrix=1_024,
    negatives=2_048,
    config=ModelConfig(text_width=1, spare_rows=0),
)
TOY = replace(
    FULL,
    steps=3,
    longer=4,
    reach=8,
    every=2,
    batch_rows=16,
    held_out=32,
    matrix=128,
    negatives=64,
    config=replace(FULL.config, width=16, layers=1),
)


class MixedRows(Rows):
    """Rows whose batches are drawn whatever their lengths, as the plain loop draws them."""

    def batches(self, size: int, generator: torch.Generator, *, by: Batching = "rows") -> Iterator[Tensor]:  # noqa: ARG002
        """Yield row numbers in random batches."""
        yield from torch.randperm(len(self), generator=generator).split(size)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What sets loops apart.

    Args:
        trims: Histories are cut into batches of alike length and padded to the longest there, not to L.
        real_only: Logits only where there is an item to predict, not at every position.
        fused: AdamW as one kernel, not one tensor at a time.
    """

    trims: bool = False
    real_only: bool = False
    fused: bool = False


REAL_ONLY = "+ logits at real positions only"
LADDER = {
    PLAIN: Habits(),
    REAL_ONLY: Habits(real_only=True),
    "+ batches of alike length": Habits(real_only=True, trims=True),
    "+ fused AdamW": Habits(real_only=True, trims=True, fused=True),
}


def unwatched(_trainer: Trainer, _step: int) -> None:
    """Look away."""


class Loop(Protocol):
    """Trains fresh weights."""

    def __call__(self, rows: Rows, watch: Watch = unwatched) -> Trainer:
        """Train one epoch on rows; return the trainer of the trained model."""
        ...


def loops(data: Sequences, size: Size, *, seed: int) -> dict[str, Loop]:
    """Return every loop by its name."""

    def plain(habits: Habits) -> Loop:
        def loop(rows: Rows, watch: Watch = unwatched) -> Trainer:
            return plain_loop(trainer(data, size, seed=seed), rows, habits, size, watch)

        return loop

    def ours(negatives: int = 0, *, by: Batching = "rows", kind: type[Rows] = Rows) -> Loop:
        def loop(rows: Rows, watch: Watch = unwatched) -> Trainer:
            made = trainer(data, size, seed=seed, negatives=negatives, batching=by)
            given = kind(rows.tokens, rows.targets, rows.lengths, rows.weight, rows.replayed)
            made.train(given, nothing(rows), beat=lambda step, _steps: watch(made, step))
            return made

        return loop

    return {name: plain(habits) for name, habits in LADDER.items()} | {
        MIXED: ours(kind=MixedRows),
        OURS: ours(),
        EVEN: ours(by="targets"),
        SAMPLED: ours(size.negatives, by="targets"),
    }


def trainer(
    data: Sequences, size: Size, *, seed: int, negatives: int = 0, batching: Batching = "rows", device: str = "cpu"
) -> Trainer:
    """Return our training loop around fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    model = SharedModel(size.config, capacity=data.items)
    described = torch.from_numpy(data.described)
    model.admit(1, described[1:])
    config = RoundConfig(
        batch_rows=size.batch_rows,
        batching=batching,
        schedule="constant",
        full_softmax_items=0 if negatives else data.items,
        sampled_negatives=negatives or 1,
        sampling="uniform",
    )
    return Trainer(
        model.to(device),
        text_vectors=described.to(device),
        active=torch.arange(data.items, device=device) > 0,
        config=config,
        epochs=1,
        learning_rate=config.first_learning_rate,
        seed=seed,
        strategy=strategy_named("naive"),
        teacher=None,
    )


def nothing(rows: Rows) -> Rows:
    """Return no rows: training then neither validates nor stops early."""
    return Rows(rows.tokens[:0], rows.targets[:0], rows.lengths[:0], rows.weight[:0], rows.replayed[:0])


def plain_loop(trainer: Trainer, rows: Rows, habits: Habits, size: Size, watch: Watch) -> Trainer:
    """Train as the commonly copied loop does, as far as `habits` do not mend it."""
    model, length = trainer.model, size.config.history_length
    everything = torch.arange(model.capacity)
    text = torch.zeros(model.capacity, 1)
    rate, decay = trainer.learning_rate, trainer.config.weight_decay
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=decay, fused=habits.fused, foreach=False if not habits.fused else None
    )
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(rows), generator=generator).split(size.batch_rows)
    for step, batch in enumerate(rows.batches(size.batch_rows, generator) if habits.trims else shuffled, start=1):
        model.train()
        part = rows.take(batch) if habits.trims else padded(rows, batch, length)
        items = model.item_vectors(text, everything)  # [N, D]
        users = model(items[part.tokens[:, :-1]], (part.lengths - 1).clamp(min=0))  # [B, L, D]
        loss = position_loss(users, items, part, real_only=habits.real_only)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch(trainer, step)
    return trainer


def position_loss(users: Tensor, items: Tensor, part: Rows, *, real_only: bool) -> Tensor:
    """Return the mean cross-entropy of every next item among all, padding (item 0) never competing.

    Both ways give the same number; they differ in how many logits they compute.
    """
    following = part.tokens[:, 1:] * part.targets[:, 1:]  # [B, L]; 0 where there is nothing to predict
    if real_only:
        real = following > 0
        return F.cross_entropy(users[real] @ items[1:].T, following[real] - 1)
    logits = users @ items[1:].T  # [B, L, N - 1]
    return F.cross_entropy(logits.flatten(0, 1), following.flatten() - 1, ignore_index=-1)


def padded(rows: Rows, batch: Tensor, length: int) -> Rows:
    """Return some rows, padded to L inputs whatever their lengths."""
    missing = length + 1 - rows.tokens.shape[1]
    tokens, targets = (F.pad(part[batch], (0, missing)) for part in (rows.tokens, rows.targets))
    return Rows(tokens, targets, rows.lengths[batch], rows.weight[batch], rows.replayed[batch])


def made_up(*, people: int, seed: int, items: int = 2_000, length: int | None = None) -> Sequences:
    """Histories as long as a shop's (median 6, a long tail), in which an item is often followed by the next one."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(1.8, 0.6, people)).astype(int), 4, 52) if length is None else [length] * people
    walks = []
    for steps in lengths:
        jumps = np.where(rng.random(steps) < 0.7, 1, rng.integers(items, size=steps))
        walks.append((rng.integers(items) + np.cumsum(jumps)) % items + 1)
    return Sequences(people=walks, items=items + 1, described=np.zeros((items + 1, 1), dtype=np.float32))
