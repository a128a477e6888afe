"""Which items compete in the softmax of an epoch: all that its rows hold, and a few in place of all others."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.sessions.data import PADDING
from benchmarks.sessions.rows import Rows
from benchmarks.sessions.softmax import NOBODY_STANDS_IN, StandIns


@dataclass(frozen=True, slots=True)
class Competitors:
    """The items of an epoch's softmax.

    An update's rows hold a third of a grown catalogue. The rest only has to be kept down, for which a few drawn anew
    each epoch do, at their weight; full retraining's rows hold everything, so that nobody stands in there.

    Args:
        items: Item indexes, stand-ins last, [C].
        places: Where in `items` each item index is; -1 for those that do not compete, [N+1].
        stand_ins: How many stand in, and for how many each.
    """

    items: Tensor
    places: Tensor
    stand_ins: StandIns

    @classmethod
    def drawn(cls, rows: Rows, *, items: int, most: int, generator: torch.Generator) -> "Competitors":
        """Return the competitors of one epoch.

        Args:
            rows: What is trained on.
            items: N, items known.
            most: Stand-ins at most.
            generator: Source of the draw.

        >>> rows = Rows(torch.tensor([[2, 3]]), torch.tensor([2]))
        >>> drawn = Competitors.drawn(rows, items=9, most=2, generator=torch.Generator().manual_seed(0))
        >>> drawn.items[:2].tolist(), drawn.stand_ins.count, round(drawn.stand_ins.log_weight, 3)  # each of 2 for 3.5
        ([2, 3], 2, 1.253)
        """
        held = torch.zeros(items + 1, dtype=torch.bool)
        held[rows.tokens.flatten()] = True
        held[PADDING] = False
        present, others = held.nonzero()[:, 0], (~held).nonzero()[1:, 0]  # the first of the others is padding
        drawn = others[torch.randperm(len(others), generator=generator)[:most]]
        everyone = torch.cat([present, drawn])
        places = torch.full((items + 1,), -1, dtype=torch.int64)
        places[everyone] = torch.arange(len(everyone))
        stand_ins = StandIns(len(drawn), math.log(len(others) / len(drawn))) if len(drawn) else NOBODY_STANDS_IN
        return cls(everyone, places, stand_ins)

    def to(self, device: torch.device) -> "Competitors":
        return Competitors(self.items.to(device), self.places.to(device), self.stand_ins)
