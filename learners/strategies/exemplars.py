"""Exemplars that teach by what a model once said of them: DER++ and ADER."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learners.replay.buffers import ReplayBuffer
from learners.replay.reservoirs import OutputReservoir
from learners.strategies.incumbent import distilled
from learners.strategies.replays import HerdingReplay, ReservoirReplay

if TYPE_CHECKING:
    from learners.rounds.rows import Rows
    from learners.rounds.training import Scored, Trainer


@dataclass(frozen=True, kw_only=True)
class DarkExperience(ReservoirReplay):
    """Replay labels and, beside them, the scores that the model of the time gave: its best ones, stored for good.

    Args:
        alpha: Weight of the squared distance from the stored scores, above 0.
        outputs: Scores stored with each interaction; the paper stores all of them, a catalogue has too many.

    Source: Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020, equation 6 (DER++).
    """

    alpha: float = 0.1
    outputs: int = 20

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return a reservoir that keeps scores."""
        return OutputReservoir(capacity=capacity, length=length, outputs=int(self.outputs), rng=rng)

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return the squared distance from the stored scores before each replayed row's last item."""
        del trainer
        rows, columns = scored.rows, scored.columns
        if not len(rows.extras) or not bool(rows.replayed.any()):
            return None
        taught = rows.extras["taught_items"][rows.replayed].long()  # [R, K]
        place = torch.searchsorted(columns, taught).clamp(max=len(columns) - 1)
        known = (columns[place] == taught) & (taught > 0)
        if not bool(known.any()):
            return None
        last = rows.targets.sum(dim=1).cumsum(dim=0) - 1  # [B], a row's last target among all targets
        users = scored.users[last[rows.replayed]]  # [R, D]
        scores = (users[:, None] * scored.items[place]).sum(dim=-1)  # [R, K]
        stored = rows.extras["taught_scores"][rows.replayed]
        share = rows.spread(rows.replayed).float().mean()
        return self.alpha * share * F.mse_loss(scores[known].float(), stored[known])


@dataclass(frozen=True, kw_only=True)
class AdaptiveDistillation(HerdingReplay):
    """Herded exemplars that teach by the incumbent's scores alone, the more there are of them and of old items.

    Args:
        base: Weight where exemplars and new rows, old items and all items are equally many; above 0.

    Source: Mi et al., "ADER: Adaptively Distilled Exemplar Replay", RecSys 2020, equations 4 to 6.
    """

    base: float = 0.8

    def begin(self, trainer: "Trainer", rows: "Rows") -> None:
        """Note this round's weight, equation 6."""
        exemplars, items = int(rows.replayed.sum()), len(trainer.active)
        old = items if trainer.teacher is None else min(items, len(trainer.teacher.items))
        new = max(1, len(rows) - exemplars)
        trainer.held["weight"] = self.base * math.sqrt(old / items * exemplars / new)

    def weights(self, trainer: "Trainer", rows: "Rows") -> Tensor:
        """Return nothing for exemplars: their labels are not learned again."""
        del trainer
        return rows.weight * ~rows.replayed

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return the distance of the student's ranking of the exemplars from the incumbent's."""
        return distilled(trainer, scored, weight=trainer.held["weight"])
