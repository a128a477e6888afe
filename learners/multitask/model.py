"""Heads for click, cart, purchase and buyer on the shared model's user and item vectors."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learners.model import SharedModel
from learners.multitask.config import MultiTaskConfig
from learners.multitask.experts import STRUCTURES
from learners.multitask.visits import Visits

TASKS = ("click", "cart", "purchase")  # cart and purchase: given a click


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """Log odds, before calibration.

    Args:
        click: That a shown item is clicked, [V, K].
        cart: That it goes into the cart if it is clicked, [V, K].
        purchase: That it is bought if it is clicked, [V, K].
        buyer: That the person buys anything in the visit, [V].
    """

    click: Tensor
    cart: Tensor
    purchase: Tensor
    buyer: Tensor

    def log_both(self, task: str) -> Tensor:
        """Return the log chance of a click AND what follows it, [V, K]: pCTCVR = pCTR * pCVR.

        Source: Ma et al., "Entire Space Multi-Task Model (ESMM)", SIGIR 2018, equation 1.
        """
        after: Tensor = getattr(self, task)
        return F.logsigmoid(self.click) + F.logsigmoid(after)


class MultiTaskModel(nn.Module):
    """The trunk and its heads.

    Only the click head knows an item's place in the list: being looked at depends on it, being liked does not.

    Args:
        trunk: The shared model; trained along.
        config: The heads' shape.
    """

    def __init__(self, trunk: SharedModel, config: MultiTaskConfig) -> None:
        super().__init__()
        self.trunk, self.config = trunk, config
        width = trunk.config.width
        self.extraction = STRUCTURES[config.structure](3 * width, tasks=len(TASKS), config=config)
        self.towers = nn.ModuleDict({task: self._tower(config.expert_width) for task in TASKS})
        self.buyer = self._tower(width)
        self.places = nn.Embedding(config.places, 1)
        nn.init.zeros_(self.places.weight)

    def user_vectors(self, item_matrix: Tensor, visits: Visits) -> Tensor:
        """Return each visit's user vector [V, D], from item vectors [N, D]."""
        users: Tensor = self.trunk.newest(item_matrix[visits.histories], visits.lengths)
        return users

    def forward(self, users: Tensor, items: Tensor) -> Logits:
        """Return all log odds.

        Args:
            users: User vectors [V, D].
            items: Vectors of the items shown, in the order of their places, [V, K, D].
        """
        items = items * math.sqrt(items.shape[-1])  # as the trunk reads them
        spread = users[:, None].expand_as(items)
        read = self.extraction(torch.cat([spread, items, spread * items], dim=-1))  # [V, K, tasks, E]
        logits = {task: self.towers[task](read[..., number, :])[..., 0] for number, task in enumerate(TASKS)}
        places = torch.arange(items.shape[1], device=items.device).clamp(max=self.config.places - 1)
        logits["click"] = logits["click"] + self.places(places)[:, 0]
        return Logits(**logits, buyer=self.buyer(users)[:, 0])

    def _tower(self, width: int) -> nn.Sequential:
        hidden = self.config.tower_width
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(self.config.dropout), nn.Linear(hidden, 1))


def task_losses(logits: Logits, visits: Visits, config: MultiTaskConfig) -> dict[str, Tensor]:
    """Return the mean loss of each head.

    With `esmm` what follows a click is learned from all impressions, through the product of chances; with `clicked`
    from clicked impressions alone, as a conversion model by itself would.
    """
    real = visits.shown > 0
    losses = {
        "click": F.binary_cross_entropy_with_logits(logits.click[real], visits.clicked[real].float()),
        "buyer": F.binary_cross_entropy_with_logits(logits.buyer, visits.buyer.float()),
    }
    for task, happened in (("cart", visits.carted), ("purchase", visits.bought)):
        if config.conversion == "esmm":
            losses[task] = log_chance_loss(logits.log_both(task)[real], happened[real])
        else:
            after: Tensor = getattr(logits, task)
            # A batch without a click teaches nothing, and must not divide by zero.
            each = F.binary_cross_entropy_with_logits(after, happened.float(), reduction="none") * visits.clicked
            losses[task] = each.sum() / visits.clicked.sum().clamp(min=1)
    return losses


def log_chance_loss(log_chance: Tensor, happened: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of chances given as logarithms.

    >>> loss = log_chance_loss(torch.tensor([0.25, 0.25]).log(), torch.tensor([True, False]))
    >>> round(loss.item(), 4)  # (log 4 + log 4/3) / 2
    0.837
    """
    # log(1 - e^x) loses every digit as x nears 0; a chance that near to 1 says no more than this one.
    missed = torch.log(-torch.expm1(log_chance.clamp(max=-1e-6)))
    return -torch.where(happened, log_chance, missed).mean()
