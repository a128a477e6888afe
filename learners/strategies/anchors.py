"""Stay close to the incumbent's weights: all alike (L2), or each by what it was worth (EWC)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learners.strategies.strategy import Strategy

if TYPE_CHECKING:
    from learners.rounds.rows import Rows
    from learners.rounds.training import Scored, Trainer

ANCHOR, FISHER = "anchor.", "fisher."


@dataclass(frozen=True, kw_only=True)
class L2ToIncumbent(Strategy):
    """Add the squared distance from the incumbent's weights to the loss.

    Args:
        strength: Half of it is the weight of the squared distance; above 0.

    Source: Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018, L2-SP.
    """

    strength: float = 0.1

    def begin(self, trainer: "Trainer", rows: "Rows") -> None:
        """Remember where the weights started, if the incumbent put them there."""
        del rows
        if trainer.teacher is not None:
            trainer.held |= {ANCHOR + name: value.detach().clone() for name, value in trainer.model.named_parameters()}

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return half the strength times the squared distance."""
        del scored
        if trainer.teacher is None:
            return None
        apart = [self._distance(trainer, name, value) for name, value in trainer.model.named_parameters()]
        return self.strength / 2 * torch.stack(apart).sum()

    def _distance(self, trainer: "Trainer", name: str, value: Tensor) -> Tensor:
        distance: Tensor = (value - trainer.held[ANCHOR + name]).square().sum()
        return distance


@dataclass(frozen=True, kw_only=True)
class ElasticWeights(L2ToIncumbent):
    """Weigh each weight's distance by its Fisher information: how much the loss of earlier rounds depends on it.

    The diagonal is measured at the end of each round and added to what earlier rounds left of theirs, so that one
    anchor, the incumbent, and one diagonal stand for the whole past. New rows of the embedding begin at zero.

    Args:
        strength: Half of it is the weight of the weighted distance; above 0.
        samples: Rows whose gradients measure the information; at least 1.
        decay: What is left of the earlier rounds' information after a round, above 0.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 114(13), 2017, equation 3;
    the running sum: Schwarz et al., "Progress & Compress", ICML 2018, section 4.
    """

    strength: float = 1_000.0
    samples: int = 256
    decay: float = 0.9

    def begin(self, trainer: "Trainer", rows: "Rows") -> None:
        """Fit the stored information to a model that may have grown."""
        super().begin(trainer, rows)
        for name, value in trainer.model.named_parameters():
            old = trainer.held.get(FISHER + name, torch.zeros(0)).to(value.device)
            trainer.held[FISHER + name] = _fitted(old, value, shared=trainer.model.config.hash_buckets)

    def finish(self, trainer: "Trainer", rows: "Rows") -> dict[str, Tensor]:
        """Measure this round's information, the mean squared gradient of a row, and add what is left of the old."""
        trainer.model.eval()
        chosen = torch.randperm(len(rows), generator=trainer.generator)[: int(self.samples)]
        sums = {name: torch.zeros_like(value) for name, value in trainer.model.named_parameters()}
        for place in chosen:
            trainer.model.zero_grad(set_to_none=True)
            trainer.likelihood(rows.take(place[None]).to(trainer.device))[1].backward()
            for name, value in trainer.model.named_parameters():
                if value.grad is not None:
                    sums[name] += value.grad.square()
        trainer.model.zero_grad(set_to_none=True)
        return {
            FISHER + name: total / len(chosen) + self.decay * trainer.held[FISHER + name]
            for name, total in sums.items()
        }

    def _distance(self, trainer: "Trainer", name: str, value: Tensor) -> Tensor:
        weighed = trainer.held[FISHER + name] * (value - trainer.held[ANCHOR + name]).square()
        distance: Tensor = weighed.sum()
        return distance


def _fitted(old: Tensor, value: Tensor, *, shared: int) -> Tensor:
    """Return stored numbers in the shape of a parameter; an embedding grows before its shared rows.

    >>> _fitted(torch.tensor([[1.0], [2.0], [9.0]]), torch.zeros(4, 1), shared=1).flatten().tolist()
    [1.0, 2.0, 0.0, 9.0]
    """
    if old.shape == value.shape:
        return old
    fitted = torch.zeros_like(value)
    if len(old):
        own = len(old) - shared
        fitted[:own], fitted[len(value) - shared :] = old[:own], old[own:]
    return fitted
