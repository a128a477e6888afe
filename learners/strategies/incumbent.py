"""Replay what was, and stay close to the incumbent on it: what a learner does unless it is told otherwise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from learners.losses import distillation_loss
from learners.strategies.strategy import Strategy

if TYPE_CHECKING:
    from learners.training import Scored, Trainer
    from learners.training_rows import Rows


@dataclass(frozen=True, kw_only=True)
class Distillation(Strategy):
    """Replay a stratified reservoir, with its labels and with the incumbent's ranking of it.

    Its weight is `RoundConfig.distillation`. Labels stay: taught by the scores of the incumbent alone, rounds of a year
    copy copies, and what is forgotten never comes back (docs/prequential.md).

    Args:
        labels: Weight of what really followed in replayed rows, beside the incumbent's ranking; at least 0.
        taught: Share of the replayed moments, drawn in every step, that the incumbent ranks too, above 0, at most 1.

    Source: Mi et al., "ADER: Adaptively Distilled Exemplar Replay", RecSys 2020, equation 4, with a fixed weight and
    with labels beside the incumbent's scores, as Buzzega et al., "Dark Experience for General Continual Learning",
    NeurIPS 2020 (DER++), has them.
    """

    replays: ClassVar[bool] = True

    taught: float = 0.25
    labels: float = 0.5

    def weights(self, trainer: "Trainer", rows: "Rows") -> Tensor:
        """Return less for the labels of what is replayed where the incumbent speaks beside them."""
        speaks = trainer.teacher is not None and trainer.config.distillation > 0
        return torch.where(rows.replayed, rows.weight * self.labels, rows.weight) if speaks else rows.weight

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return the distance of the student's ranking of replayed rows from the teacher's, by their share."""
        return distilled(trainer, scored, weight=trainer.config.distillation, share=self.taught)


def distilled(trainer: "Trainer", scored: "Scored", *, weight: float, share: float = 1.0) -> Tensor | None:
    """Return the weighted distance from the incumbent on the batch's replayed rows, or None if there is none.

    Args:
        trainer: Who has a teacher, or none.
        scored: The batch.
        weight: Of the distance.
        share: Of the replayed moments, drawn at random, that are compared.
    """
    rows, columns, teacher = scored.rows, scored.columns, trainer.teacher
    replayed = rows.spread(rows.replayed)
    if teacher is None or weight == 0 or not bool(replayed.any()):
        return None
    known = int((columns < len(teacher.items)).sum())  # columns ascend: those the teacher knows come first
    taught, learning = teacher.moments(rows.take(rows.replayed.nonzero()[:, 0])), scored.users[replayed]
    if share < 1:
        drawn = torch.randperm(len(taught), generator=trainer.generator)[: max(1, int(share * len(taught)))]
        drawn = drawn.to(taught.device)
        taught, learning = taught[drawn], learning[drawn]
    apart = distillation_loss(learning, scored.items[:known], taught, teacher.items[columns[:known]])
    return weight * replayed.float().mean() * apart
