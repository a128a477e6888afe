"""Several descriptions of an item become one vector: each is projected, and a gate decides whom to hear, by number.

A description that an item lacks is masked: it gets no say and the others share its part. While training, descriptions
are left out at random, so that the model has seen every combination that it will serve.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Parts = Mapping[str, Tensor]


class Gate(nn.Module):
    """Mix vectors of M descriptions by weights in [0, 1] that sum to one over those that are there.

    Args:
        parts: M, descriptions.
        width: D.

    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR 2017 workshop, equations 1 to 3; for
        two descriptions the softmax over gate logits is the paper's sigmoid.
    """

    def __init__(self, *, parts: int, width: int) -> None:
        super().__init__()
        self.logits = nn.Linear(parts * width, parts * width)
        nn.init.zeros_(self.logits.weight)  # at first everyone is heard alike
        nn.init.zeros_(self.logits.bias)

    def forward(self, values: Sequence[Tensor], present: Tensor) -> Tensor:
        """Return mixed vectors [n, D]; zero where an item has no description at all.

        Args:
            values: Projected descriptions, M of [n, D].
            present: Whether an item has each, bool [n, M].
        """
        stacked = torch.stack(list(values), dim=1) * present[..., None]  # [n, M, D]
        logits = self.logits(stacked.flatten(1)).unflatten(1, stacked.shape[1:])
        weights = logits.masked_fill(~present[..., None], -torch.inf).softmax(dim=1)
        heard = torch.where(present[..., None], weights, 0.0)  # none present: softmax is NaN
        mixed: Tensor = (heard * stacked).sum(dim=1)
        return mixed


class ItemFusion(nn.Module):
    """One unit vector per item from whatever describes it.

    Args:
        widths: Numbers in a vector of each description, by name.
        width: D, numbers in an item vector.
        dropout: Share of a description's numbers left out while training.
        modality_dropout: Chance that a description is left out of an item while training; one always stays.

    >>> _ = torch.manual_seed(0)
    >>> fusion = ItemFusion({"text": 4, "image": 3}, width=8).eval()
    >>> item = fusion({"text": torch.ones(2, 4), "image": torch.tensor([[0.0, 0, 0], [1, 2, 3]])})
    >>> item.shape, torch.allclose(item[0], fusion({"text": torch.ones(1, 4)})[0])
    (torch.Size([2, 8]), True)
    """

    def __init__(
        self, widths: Mapping[str, int], *, width: int, dropout: float = 0.0, modality_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.names = tuple(widths)
        self.width, self.modality_dropout = width, modality_dropout
        self.projections = nn.ModuleDict({name: nn.Linear(size, width) for name, size in widths.items()})
        self.dropout = nn.Dropout(dropout)
        self.gate = Gate(parts=len(widths), width=width)

    def forward(self, parts: Parts) -> Tensor:
        """Return unit item vectors [n, D]; the zero vector for an item without any description.

        Args:
            parts: Vectors [n, width of the description] by name. A description may be absent for all, or zero for
                those items that lack it.
        """
        values, present = self.project(parts)
        if self.training and self.modality_dropout:
            present = left_out(present, self.modality_dropout)
        return self.mix(values, present)

    def project(self, parts: Parts) -> tuple[list[Tensor], Tensor]:
        """Return the descriptions in the space they share, M of [n, D], and which of them are there, bool [n, M]."""
        any_part = next(iter(parts.values()))
        values, present = [], []
        for name in self.names:
            part = parts.get(name)
            if part is None:
                values.append(any_part.new_zeros(len(any_part), self.width))
                present.append(torch.zeros(len(any_part), dtype=torch.bool, device=any_part.device))
            else:
                values.append(torch.tanh(self.projections[name](self.dropout(part))))
                present.append(part.any(dim=1))
        return values, torch.stack(present, dim=1)

    def mix(self, values: Sequence[Tensor], present: Tensor) -> Tensor:
        """Return unit item vectors [n, D] of what `project` returned, as if only `present` were there."""
        return F.normalize(self.gate(values, present), dim=-1)


def left_out(present: Tensor, chance: float) -> Tensor:
    """Return who is heard of those present, bool [n, M], each left out by chance; if all were, all stay.

    >>> _ = torch.manual_seed(0)
    >>> heard = left_out(torch.tensor([[True, True, False]] * 200), 0.5)
    >>> bool(heard[:, :2].any(dim=1).all()), bool(heard[:, 2].any()), bool(heard[:, :2].all())
    (True, False, False)
    """
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)
