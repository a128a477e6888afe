"""Several models asked together of the same events, and the weights that follow from how well each spoke."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learners.knowledge.distillation import AdaptiveWeights, mixed_targets
from learners.knowledge.sharing import Member

Indexes = npt.NDArray[np.int32]
TOP = 10


@dataclass(frozen=True)
class Opinions:
    """What every model says of the same events.

    Args:
        logits: Of each model, over the columns, [W, C].
        known: Of each model, which columns it learned about, bool [C].
        true: Which column followed, [W].
    """

    logits: Sequence[Tensor]
    known: Sequence[Tensor]
    true: Tensor

    @classmethod
    def of(
        cls, members: Sequence[Member], histories: npt.NDArray[np.int32], targets: npt.NDArray[np.int32], sells: Tensor
    ) -> "Opinions":
        """Ask the models about histories, [W, L], over the items that are sold, bool [N]."""
        columns = sells.nonzero()[:, 0]
        logits = [
            torch.from_numpy(member.release.encode_users(list(histories)) @ member.release.item_matrix.T)[:, columns]
            for member in members
        ]
        true = torch.searchsorted(columns, torch.from_numpy(targets).long())
        return cls(logits, [member.knows[columns] for member in members], true)

    def __len__(self) -> int:
        """W."""
        return len(self.true)

    def losses(self) -> list[list[float]]:
        """Return of each event each model's log loss over that of a blind guess, [W, M]; 1 for an item not known."""
        found = []
        for logits, known in zip(self.logits, self.known, strict=True):
            said = torch.log_softmax(logits.masked_fill(~known, -math.inf), dim=1)
            own = -said[torch.arange(len(self)), self.true] / math.log(logits.shape[1])
            found.append(own.clamp(max=1.0))
        lost: list[list[float]] = torch.stack(found, dim=1).tolist()
        return lost

    def mixed(self, weights: Sequence[float], event: int | None = None) -> Tensor:
        """Return what they say together of one event, or of all, [1 or W, C]."""
        rows = slice(None) if event is None else slice(event, event + 1)
        return mixed_targets([one[rows] for one in self.logits], weights, known=self.known)


def gains(scores: Tensor, true: Tensor) -> list[float]:
    """Return NDCG@10 of each row; ties count against the true column.

    Args:
        scores: [W, C].
        true: [W].

    >>> gains(torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]]), torch.tensor([0, 0]))
    [1.0, 0.6309297535714575]
    """
    own = scores[torch.arange(len(true)), true][:, None]
    ranks = (scores >= own).sum(dim=1).tolist()
    return [1 / math.log2(rank + 1) if rank <= TOP else 0.0 for rank in ranks]


def chosen_weights(opinions: Opinions) -> AdaptiveWeights:
    """Return the weights that follow from feedback on these events."""
    weights = AdaptiveWeights(len(opinions.logits))
    for losses in opinions.losses():
        weights.update(losses)
    return weights
