"""What is done with a batch beyond one step down its gradient: Reptile and FGM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learners.strategies.incumbent import Distillation

if TYPE_CHECKING:
    from learners.rounds.rows import Rows
    from learners.rounds.training import Trainer


@dataclass(frozen=True, kw_only=True)
class Reptile(Distillation):
    """Take a few small steps on a few alike people, then go only part of the way: weights from which few shots suffice.

    A batch is a task: its rows are alike in length, so people with few interactions make tasks of their own.

    Args:
        inner: Steps within a task, each on a part of its rows; at least 1.
        outer: Share of the way that is gone in the end, above 0, at most 1.

    Source: Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 1 (Adam within).
    """

    inner: int = 4
    outer: float = 0.5

    def step(self, trainer: "Trainer", rows: "Rows") -> Tensor:
        """Learn one task; return the mean loss of its steps."""
        before = [value.detach().clone() for value in trainer.model.parameters()]
        size = -(-len(rows) // int(self.inner))
        parts = torch.randperm(len(rows), generator=trainer.generator).to(trainer.device).split(size)
        losses = [trainer.step(rows.take(part)) for part in parts]
        with torch.no_grad():
            for value, start in zip(trainer.model.parameters(), before, strict=True):
                value.copy_(torch.lerp(start, value, self.outer))
        return torch.stack(losses).mean()


@dataclass(frozen=True, kw_only=True)
class FastGradient(Distillation):
    """Learn each batch twice: as it is, and with the item embeddings moved to where they hurt most.

    Args:
        size: Norm of the move, above 0.

    Source: Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017,
    equation 3; for recommendation: He et al., "Adversarial Personalized Ranking", SIGIR 2018.
    """

    size: float = 0.5

    def backward(self, trainer: "Trainer", rows: "Rows", loss: Tensor) -> None:
        """Leave the sum of both gradients."""
        super().backward(trainer, rows, loss)
        embedding = trainer.model.id_embedding.weight
        if embedding.grad is None:
            return
        move = self.size * embedding.grad / embedding.grad.norm().clamp(min=1e-12)
        embedding.data.add_(move)
        super().backward(trainer, rows, trainer.loss(rows))
        embedding.data.sub_(move)
