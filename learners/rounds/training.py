"""The training loop of a round: fine-tune a copy, stay close to the incumbent, stop early, and refuse to diverge."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from learners.errors import DivergedError
from learners.model import SharedModel
from learners.rounds.losses import LOSSES, sample_columns, softmax_loss
from learners.rounds.material import RoundConfig
from learners.rounds.rows import Rows
from learners.strategies import Strategy

Beat = Callable[[int, int], None]
Reader = Callable[[Tensor, Tensor], Tensor]  # a `SharedModel`, as it is or compiled
FUSED_DEVICES = ("cpu", "cuda")  # where AdamW updates all parameters in one kernel


@dataclass(frozen=True, slots=True)
class Teacher:
    """The incumbent, as far as distillation needs it.

    Args:
        model: Its network.
        items: Its item vectors [O, E]; it knows the items below O.
    """

    model: SharedModel
    items: Tensor

    @torch.no_grad()
    def moments(self, rows: Rows) -> Tensor:
        """Return its user vector before each target, [P, E]; items it does not know are zero vectors to it."""
        known = rows.tokens.where(rows.tokens < len(self.items), torch.zeros_like(rows.tokens))
        return _moments(self.model, self.items, rows, known)


@dataclass(frozen=True, slots=True)
class Scored:
    """One batch as the model sees it: users before each of its P targets, and the C items that compete.

    Args:
        rows: The batch.
        columns: Their item indexes, ascending, [C].
        items: Their item vectors [C, D].
        users: User vectors [P, D].
    """

    rows: Rows
    columns: Tensor
    items: Tensor
    users: Tensor


@dataclass(slots=True)
class Curve:
    """How a round went."""

    losses: list[float] = field(default_factory=list)  # per batch
    gradient_norms: list[float] = field(default_factory=list)  # per optimizer step, before clipping
    validation: list[float] = field(default_factory=list)  # per epoch
    best_epoch: int = 0


class Trainer:
    """Train one model on one round's rows.

    Args:
        model: The copy to train, on the device to train on.
        text_vectors: [N, T].
        active: Items that compete, bool [N].
        config: How to train.
        strategy: What of it is replayed, added to the loss, trained.
        epochs: Most passes over the rows.
        learning_rate: eta_0.
        epsilon: AdamW's.
        seed: Source of batch order, dropout and negatives.
        teacher: The incumbent, if there is one.
        held: What the strategy kept of the incumbent's round.
    """

    def __init__(
        self,
        model: SharedModel,
        *,
        text_vectors: Tensor,
        active: Tensor,
        config: RoundConfig,
        strategy: Strategy,
        epochs: int,
        learning_rate: float,
        epsilon: float = 1e-8,
        seed: int,
        teacher: Teacher | None,
        held: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.config, self.strategy, self.teacher = model, config, strategy, teacher
        self.held = dict(held or {})  # what a strategy holds on to: from the last round, and while this one trains
        self.kept: dict[str, Tensor] = {}  # what it keeps for the next
        self.device = model.newcomer.device
        self.epochs, self.learning_rate, self.epsilon = epochs, learning_rate, epsilon
        self._text, self._all = text_vectors, torch.arange(len(text_vectors), device=self.device)
        self.active = active  # [N]
        self._active = active.nonzero()[:, 0]
        self._span = _slice_of(self._active)
        self._popularity: Tensor | None = None
        self._reader: Reader = torch.compile(model, dynamic=True) if config.compile else model
        self.generator = torch.Generator().manual_seed(seed)
        self._norms: list[Tensor] = []
        self._optimizer: torch.optim.Optimizer
        torch.manual_seed(seed)  # dropout draws from the global generator

    def train(self, rows: Rows, validation: Rows, *, beat: Beat) -> Curve:
        """Train until the epochs are over or validation stops improving; the model ends as the best epoch left it.

        Raises:
            DivergedError: If a loss is not a finite number.
        """
        self.strategy.begin(self, rows)
        self._optimizer = torch.optim.AdamW(
            [each for each in self.model.parameters() if each.requires_grad],
            lr=self.learning_rate,
            eps=self.epsilon,
            weight_decay=self.config.weight_decay,
            fused=self.device.type in FUSED_DEVICES,
        )
        if self.config.sampling == "popularity":
            counts = torch.bincount(rows.tokens[rows.targets], minlength=len(self._all))
            self._popularity = counts[self._active.cpu()].double() + 1  # what was never a target can be drawn too
        steps = self.epochs * math.ceil(len(rows) / self.config.batch_rows)
        schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: self._rate(step, steps))
        curve, best, best_state = Curve(), math.inf, None
        for epoch in range(1, self.epochs + 1):
            losses: list[Tensor] = []
            for batch in rows.batches(self.config.batch_rows, self.generator, by=self.config.batching):
                losses.append(self.strategy.step(self, rows.take(batch).to(self.device)))
                schedule.step()
                beat(len(curve.losses) + len(losses), steps)
            curve.losses += torch.stack(losses).tolist()  # one read-back from the device per epoch
            _require_finite(curve.losses)
            if not len(validation):
                curve.best_epoch = epoch
                continue
            curve.validation.append(self.evaluate(validation))
            if curve.validation[-1] < best:
                best, best_state, curve.best_epoch = curve.validation[-1], copy.deepcopy(self.model.state_dict()), epoch
            elif epoch - curve.best_epoch >= self.config.patience:
                break
        if best_state is not None:
            self.model.load_state_dict(best_state)
        curve.gradient_norms = torch.stack(self._norms).tolist()
        self.kept = self.strategy.finish(self, rows)
        return curve

    def step(self, rows: Rows) -> Tensor:
        """Take one optimizer step on a batch; return its loss, detached."""
        loss = self.loss(rows)
        self._optimizer.zero_grad(set_to_none=True)
        self.strategy.backward(self, rows, loss)
        self._norms.append(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm))
        self._optimizer.step()
        return loss.detach()

    def loss(self, rows: Rows) -> Tensor:
        """Return the loss of one batch, dropout on."""
        self.model.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            scored, loss = self.likelihood(rows)
            added = self.strategy.penalty(self, scored)
            return loss if added is None else loss + added

    def likelihood(self, rows: Rows) -> tuple[Scored, Tensor]:
        """Return one batch as the model sees it, and how badly it ranks the targets; dropout is as it was left."""
        targets = rows.tokens[rows.targets]  # [P]
        columns, log_chance = self._columns(targets)  # [C]
        # A step touches the whole catalogue, or, when it samples, only the items in its rows and in its sample.
        present = self._all if log_chance is None else torch.unique(torch.cat([rows.tokens.flatten(), columns]))
        items = self.item_vectors(present)
        competing = items[self._span if columns is self._active else torch.searchsorted(present, columns)]  # [C, D]
        users = _moments(self.model, items, rows, torch.searchsorted(present, rows.tokens), self._reader)  # [P, D]
        true, weight = torch.searchsorted(columns, targets), rows.spread(self.strategy.weights(self, rows))
        scored = Scored(rows, columns, competing, users)
        counts = weight > 0
        if not bool(counts.any()):
            return scored, users.sum() * 0.0  # a strategy mutes the targets of all of its rows
        if not bool(counts.all()):  # scores of the whole catalogue are not computed for what is muted
            users, true, weight = users[counts], true[counts], weight[counts]
        return scored, LOSSES[self.config.loss](users, competing, true, weight, log_chance=log_chance)

    def item_vectors(self, indexes: Tensor) -> Tensor:
        """Return the item vectors of some items as a step sees them, [n, D]."""
        # Picked out of a whole catalogue, its texts would be copied in every step: a tenth of a small step's time.
        texts = self._text if indexes is self._all else self._text[indexes]
        return self.model.item_vectors(self.strategy.texts(texts), indexes)

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> float:
        """Return the mean log loss of the rows' targets among all active items, dropout off."""
        self.model.eval()
        items = self.model.item_vectors(self._text, self._all)
        total = torch.zeros((), device=self.device)
        for batch in torch.arange(len(rows)).split(256):
            part = rows.take(batch).to(self.device)
            targets = part.tokens[part.targets]
            columns = torch.unique(torch.cat([self._active, targets]))
            users = _moments(self.model, items, part, part.tokens)
            one = torch.ones(len(targets), device=self.device)
            total += softmax_loss(users, items[columns], torch.searchsorted(columns, targets), one) * len(targets)
        return float(total / rows.targets.sum())

    def _columns(self, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        if len(self._active) <= self.config.full_softmax_items:
            if bool(self.active[targets].all()):
                return self._active, None
            return torch.unique(torch.cat([self._active, targets])), None
        columns, log_chance = sample_columns(
            targets.cpu(),
            self._active.cpu(),
            size=self.config.sampled_negatives,
            generator=self.generator,
            popularity=self._popularity,
        )
        return columns.to(self.device), log_chance.to(self.device)

    def _rate(self, step: int, steps: int) -> float:
        match self.config.schedule:
            case "constant":
                return 1.0
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
            case "inverse":
                return 1 / (1 + self.config.schedule_decay * step)


def _slice_of(indexes: Tensor) -> slice | Tensor:
    """Return ascending indexes [n] as a slice, which is read without a copy, where they leave none out."""
    if not len(indexes):
        return indexes
    first, last = int(indexes[0]), int(indexes[-1])
    return slice(first, last + 1) if last - first + 1 == len(indexes) else indexes


def _moments(model: SharedModel, items: Tensor, rows: Rows, places: Tensor, reader: Reader | None = None) -> Tensor:
    """Return the user vector before each target, in row order, [P, D].

    Args:
        model: Who reads the histories.
        items: Item vectors [n, D].
        rows: The histories.
        places: Where in `items` each of the rows' tokens is, [B, L+1].
        reader: What is called in the model's stead: the model itself, or as it was compiled.
    """
    users = (model if reader is None else reader)(items[places[:, :-1]], (rows.lengths - 1).clamp(min=0))  # [B, L, D]
    newcomer = model.newcomer.to(users.dtype).expand(len(places), 1, -1)
    return torch.cat([newcomer, users], dim=1)[rows.targets]


def _require_finite(losses: list[float]) -> None:
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise DivergedError(step=step, loss=loss)
