"""The full softmax over a catalogue, its gradient taken in the same pass, the scores held once in the quickest type."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the type that large products are quickest in: bfloat16 where the processor multiplies it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32  # noqa: SLF001 - no public way to ask


@dataclass(frozen=True, slots=True)
class StandIns:
    """Items drawn evenly from those that are nobody's target, to stand in for all of them.

    Args:
        count: How many of the last items are such.
        log_weight: Log of how many items each stands for; added to its score, so that sums over items keep their
            expectation.

    Source: Jean et al., "On Using Very Large Target Vocabulary for NMT", ACL 2015.
    """

    count: int = 0
    log_weight: float = 0.0


NOBODY_STANDS_IN = StandIns()


class FullSoftmax(torch.autograd.Function):
    """The mean cross-entropy of the true items among all; use `full_softmax_loss`.

    With p = softmax(U V^T) the gradients are (p V - V[true]) / P and p^T U / P less the true items' share: two products
    of the same size as the scores', and nothing else as large.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        context: Any, users: Tensor, items: Tensor, targets: Tensor, stand_ins: StandIns, dtype: torch.dtype
    ) -> Tensor:
        """Return the loss; keep the gradients, which are small beside the scores."""
        share = 1 / len(targets)
        small_users, small_items = users.to(dtype), items.to(dtype)
        scores = small_users @ small_items.T  # [P, N]
        if stand_ins.count:
            scores[:, -stand_ins.count :] += stand_ins.log_weight
        chances = scores.softmax(dim=1)
        true_chances = chances.gather(1, targets[:, None])[:, 0].float()
        to_users = ((chances @ small_items).float() - items[targets]) * share
        to_items = (chances.T @ small_users).float() * share
        to_items.index_add_(0, targets, users, alpha=-share)
        context.save_for_backward(to_users, to_items)
        return -true_chances.clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Return the kept gradients, scaled."""
        to_users, to_items = context.saved_tensors
        return to_users * gradient, to_items * gradient, None, None, None


def full_softmax_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    stand_ins: StandIns = NOBODY_STANDS_IN,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the mean cross-entropy of the true items among all items.

    Args:
        users: User vectors [P, D].
        items: Item vectors [N, D].
        targets: Which item is true, [P].
        stand_ins: Whether the last items stand in for others.
        dtype: Of the large products.

    >>> two = torch.eye(2)
    >>> round(full_softmax_loss(two, two, torch.tensor([0, 1])).item(), 4)  # log(1 + 1/e)
    0.3133
    """
    loss: Tensor = FullSoftmax.apply(users, items, targets, stand_ins, dtype)  # type: ignore[no-untyped-call]
    return loss
