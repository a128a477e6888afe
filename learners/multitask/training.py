"""The training loop of the heads: every batch of visits teaches all tasks, and the trunk through them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learners.errors import DivergedError
from learners.multitask.model import MultiTaskModel, task_losses
from learners.multitask.visits import Visits
from learners.rounds.training import FUSED_DEVICES


class MultiTaskTrainer:
    """Train trunk and heads on one set of visits. On a CPU the result depends on the arguments alone.

    Args:
        model: What to train, on the device to train on.
        text_vectors: [N, T].
        active: Items that compete to be looked at next, bool [N].
        seed: Source of batch order and dropout.
    """

    def __init__(self, model: MultiTaskModel, *, text_vectors: Tensor, active: Tensor, seed: int) -> None:
        self.model, self.config = model, model.config
        self.device = model.trunk.newcomer.device
        self._text, self._all = text_vectors, torch.arange(len(text_vectors), device=self.device)
        self._hidden = ~active
        self._seed = seed

    def train(self, visits: Visits) -> list[dict[str, float]]:
        """Train for all epochs; return the mean of each task's loss in each epoch.

        Raises:
            DivergedError: If a loss stops being a finite number.
        """
        config, generator = self.config, torch.Generator().manual_seed(self._seed)
        torch.manual_seed(self._seed)  # dropout draws from the global generator
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=self.device.type in FUSED_DEVICES,
        )
        steps = config.epochs * math.ceil(len(visits) / config.batch_visits)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        curve: list[dict[str, float]] = []
        for _ in range(config.epochs):
            losses = []
            for batch in visits.batches(config.batch_visits, generator):
                parts = self.losses(visits.take(batch).to(self.device))
                total = torch.stack([getattr(config.weights, task) * loss for task, loss in parts.items()]).sum()
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
                optimizer.step()
                schedule.step()
                losses.append(torch.stack(list(parts.values())).detach())
            if losses:
                means = torch.stack(losses).mean(dim=0).tolist()  # one read-back from the device per epoch
                curve.append(dict(zip(parts, means, strict=True)))
                _require_finite(curve, steps_per_epoch=len(losses))
        return curve

    def losses(self, visits: Visits) -> dict[str, Tensor]:
        """Return each weighted task's loss of one batch, dropout on; tasks of weight 0 are left out."""
        self.model.train()
        items = self.model.trunk.item_vectors(self._text, self._all)  # [N, D]
        users = self.model.user_vectors(items, visits)  # [V, D]
        losses = task_losses(self.model(users, items[visits.shown]), visits, self.config)
        seen = visits.next_item > 0
        scores = (users[seen] @ items.T).masked_fill(self._hidden, -torch.inf)
        # The sum, so that a batch in which nobody looked at anything is zero and not 0 / 0.
        losses["next_item"] = F.cross_entropy(scores, visits.next_item[seen], reduction="sum") / seen.sum().clamp(min=1)
        return {task: loss for task, loss in losses.items() if getattr(self.config.weights, task) > 0}


def _require_finite(curve: list[dict[str, float]], *, steps_per_epoch: int) -> None:
    for loss in curve[-1].values():
        if not math.isfinite(loss):
            raise DivergedError(step=len(curve) * steps_per_epoch, loss=loss)
