"""What a shop asks of the heads: calibrated chances, buy or not, items alike, and what a person is interested in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learners.multitask.calibration import Calibration, Floats
from learners.multitask.model import TASKS, Logits, MultiTaskModel
from learners.multitask.visits import Visits

HEADS = (*TASKS, "buyer")
_BATCH_VISITS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """Calibrated chances.

    Args:
        click: That a shown item is clicked, [V, K].
        cart: That it goes into the cart if it is clicked, [V, K].
        purchase: That it is bought if it is clicked (conversion), [V, K].
        buyer: That the person buys anything in the visit, [V].
        will_buy: Buy or not: `buyer` at or above the threshold, bool [V].
    """

    click: Floats
    cart: Floats
    purchase: Floats
    buyer: Floats
    will_buy: npt.NDArray[np.bool_]

    @property
    def click_and_purchase(self) -> Floats:
        """That a shown item is clicked and bought, [V, K]: the product also after calibration."""
        return self.click * self.purchase

    @property
    def click_and_cart(self) -> Floats:
        """That a shown item is clicked and put into the cart, [V, K]."""
        return self.click * self.cart


@dataclass(slots=True)
class Predictor:
    """A trained model ready to be asked.

    Args:
        model: Trunk and heads; put into evaluation mode.
        text_vectors: [N, T], on the model's device.
        active: Items that may be looked at next, bool [N].
        calibrations: One for each head; missing ones change nothing.
        threshold: Least chance at which a person is called a buyer.
    """

    model: MultiTaskModel
    text_vectors: Tensor
    active: Tensor
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    threshold: float = 0.5
    _items: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Compute the item vectors once."""
        self.model.eval()
        everything = torch.arange(len(self.text_vectors), device=self.text_vectors.device)
        with torch.inference_mode():
            self._items = self.model.trunk.item_vectors(self.text_vectors, everything)

    @torch.inference_mode()
    def logits(self, visits: Visits) -> dict[str, npt.NDArray[np.float32]]:
        """Return every head's log odds, uncalibrated: [V, K] of each task, [V] of the buyer."""
        parts: list[Logits] = []
        for batch in torch.arange(len(visits)).split(_BATCH_VISITS):
            part = visits.take(batch).to(self._items.device)
            users = self.model.user_vectors(self._items, part)
            parts.append(self.model(users, self._items[part.shown]))
        return {head: torch.cat([getattr(part, head) for part in parts]).float().cpu().numpy() for head in HEADS}

    def calibrate(self, held_out: Visits) -> None:
        """Fit each head to visits that it was not trained on, and the threshold to where F1 is highest.

        What follows a click is fitted on the clicked ones, the only ones with an outcome.
        """
        logits = self.logits(held_out)
        shown, clicked = (held_out.shown > 0).numpy(), held_out.clicked.numpy()
        outcomes = {"click": clicked, "cart": held_out.carted.numpy(), "purchase": held_out.bought.numpy()}
        judged = {"click": shown, "cart": clicked, "purchase": clicked}
        buyer = held_out.buyer.numpy()
        self.calibrations = {
            task: Calibration.beta(logits[task][judged[task]], outcomes[task][judged[task]]) for task in TASKS
        } | {"buyer": Calibration.beta(logits["buyer"], buyer)}
        self.threshold = best_threshold(self.calibrations["buyer"].chances(logits["buyer"]), buyer)

    def chances(self, visits: Visits) -> Chances:
        """Return calibrated chances for what would be shown; labels in `visits` are not looked at."""
        logits = self.logits(visits)
        found = {head: self.calibrations.get(head, Calibration()).chances(logits[head]) for head in HEADS}
        return Chances(**found, will_buy=found["buyer"] >= self.threshold)

    @torch.inference_mode()
    def similar_items(self, item_index: int, *, k: int) -> list[tuple[int, float]]:
        """Return the k active items most like one, best first, with their cosine similarity in [-1, 1]."""
        unit = torch.nn.functional.normalize(self._items, dim=-1)
        alike = (unit @ unit[item_index]).masked_fill(~self.active, -torch.inf)
        alike[item_index] = -torch.inf
        values, indexes = alike.topk(min(k, int(torch.isfinite(alike).sum())))
        return list(zip(indexes.tolist(), values.tolist(), strict=True))

    @torch.inference_mode()
    def interests(self, visits: Visits, groups: Sequence[int]) -> Floats:
        """Return how likely the next item looked at is of each group, [V, G]; rows sum to 1.

        Args:
            visits: Only histories and lengths are read.
            groups: The group (category, brand, ...) of each item, numbered from 0, N of them.
        """
        of_group = torch.nn.functional.one_hot(torch.tensor(groups)).to(self._items)  # [N, G]
        shares = []
        for batch in torch.arange(len(visits)).split(_BATCH_VISITS):
            users = self.model.user_vectors(self._items, visits.take(batch).to(self._items.device))
            scores = (users @ self._items.T).masked_fill(~self.active, -torch.inf)
            shares.append((scores.softmax(dim=-1) @ of_group).double().cpu())
        found: Floats = torch.cat(shares).numpy()
        return found


def best_threshold(chances: Floats, outcomes: npt.NDArray[np.bool_]) -> float:
    """Return the least chance to call a yes, so that F1 is highest; 0.5 where there is no yes to find.

    >>> best_threshold(np.array([0.1, 0.2, 0.4, 0.3]), np.array([False, False, True, True]))
    0.3
    """
    if not outcomes.any():
        return 0.5
    order = np.argsort(-chances, kind="stable")
    right = np.cumsum(outcomes[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + outcomes.sum())
    return float(chances[order][int(f1.argmax())])
