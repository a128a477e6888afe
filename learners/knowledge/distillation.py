"""Many models teach one, whatever their architectures: a weighted mixture of what they say, and weights that adapt.

Teachers meet the student in logits over the items that both know; a teacher that does not know an item says nothing of
it, and the others speak for it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from learners.knowledge.errors import FusionError


def mixed_targets(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    known: Sequence[Tensor] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return what the teachers say together: probabilities [B, N].

    Args:
        logits: Of each teacher, over the student's items, [B, N].
        weights: Of the teachers, at least 0, not all 0.
        known: Of each teacher, which items it knows, bool [N]; None: all. What nobody knows gets no probability.
        temperature: Divides logits; above 0. Higher says more of what is not first.

    Raises:
        FusionError: If shapes or weights are wrong.

    >>> confident, unsure = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> mixed_targets([confident, unsure], [1.0, 1.0]).round(decimals=2).tolist()
    [[0.75, 0.25]]

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2; You et al., "Learning from
        Multiple Teacher Networks", KDD 2017.
    """
    shapes = {tuple(one.shape) for one in logits}
    if len(shapes) != 1 or len(weights) != len(logits) or min(weights) < 0 or not sum(weights) > 0:
        reason = f"teachers' logits have shapes {sorted(shapes)} and weights {list(weights)}"
        raise FusionError(reason=f"{reason}; expected one shape, and a weight of at least 0 each, not all 0")
    masks = known or [torch.ones(one.shape[1], dtype=torch.bool) for one in logits]
    mixed, trusted = torch.zeros_like(logits[0]), torch.zeros(logits[0].shape[1], dtype=logits[0].dtype)
    for one, weight, mask in zip(logits, weights, masks, strict=True):
        said = F.softmax((one / temperature).masked_fill(~mask, -math.inf), dim=1)
        mixed += weight * said.nan_to_num()  # a teacher that knows no item at all says nothing
        trusted += weight * mask
    # an item that few know of is not less likely for it: its probability is theirs, scaled up to all
    scaled = mixed / trusted.clamp(min=1e-12) * sum(weights)
    return scaled / scaled.sum(dim=1, keepdim=True).clamp(min=1e-12)


def distillation_loss(student: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the cross entropy of the student's logits [B, N] against the teachers' targets [B, N], a scalar.

    Scaled by the square of the temperature, so that its gradient keeps its size.

    Source: Hinton et al., 2015, section 2.1.
    """
    spoken = F.log_softmax(student / temperature, dim=1)
    return -(targets * spoken).sum(dim=1).mean() * temperature**2


class AdaptiveWeights:
    """Weights of M models that follow the feedback: who predicts well gains, and who lost may come back.

    Args:
        count: M.
        rate: Learning rate on losses in [0, 1]; above 0.
        share: Part of all weight that is spread evenly at every step, in [0, 1): how soon a forgotten model returns.

    >>> weights = AdaptiveWeights(2, rate=1.0, share=0.0)
    >>> weights.update([0.0, 1.0])
    >>> [round(weight, 3) for weight in weights.values]
    [0.731, 0.269]

    Source: Herbster & Warmuth, "Tracking the Best Expert", Machine Learning 32, 1998, Fixed Share.
    """

    def __init__(self, count: int, *, rate: float = 0.5, share: float = 0.01) -> None:
        if count < 1 or not rate > 0 or not 0 <= share < 1:
            raise FusionError(reason=f"count={count}, rate={rate}, share={share}; expected >= 1, > 0 and in [0, 1)")
        self.values = [1 / count] * count
        self._rate, self._share = rate, share

    def update(self, losses: Sequence[float]) -> None:
        """Learn from the loss of every model on the same feedback; a loss that is no number counts as the worst.

        Args:
            losses: M of them, each in [0, 1]; what lies outside is cut off.
        """
        if len(losses) != len(self.values):
            raise FusionError(reason=f"there are {len(losses)} losses; expected {len(self.values)}")
        bounded = [1.0 if math.isnan(loss) else min(1.0, max(0.0, loss)) for loss in losses]
        gained = [value * math.exp(-self._rate * loss) for value, loss in zip(self.values, bounded, strict=True)]
        total, spread = sum(gained), self._share / len(gained)
        self.values = [(1 - self._share) * value / total + spread for value in gained]

    def get_state(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"values": list(self.values)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described."""
        self.values = [float(value) for value in state["values"]]
