"""Replay what was, and stay close to the incumbent on it: what a learner does unless it is told otherwise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from learners.losses import distillation_loss
from learners.strategies.strategy import Strategy

if TYPE_CHECKING:
    from learners.training import Scored, Trainer


@dataclass(frozen=True, kw_only=True)
class Distillation(Strategy):
    """Replay a stratified reservoir, with its labels and with the incumbent's ranking of them.

    Its weight is `RoundConfig.distillation`.

    Source: Mi et al., "ADER: Adaptively Distilled Exemplar Replay", RecSys 2020, equation 4, with a fixed weight and
    with labels beside the incumbent's scores, as Buzzega et al., "Dark Experience for General Continual Learning",
    NeurIPS 2020 (DER++), has them.
    """

    replays: ClassVar[bool] = True

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return the distance of the student's ranking of replayed rows from the teacher's, by their share."""
        return distilled(trainer, scored, weight=trainer.config.distillation)


def distilled(trainer: "Trainer", scored: "Scored", *, weight: float) -> Tensor | None:
    """Return the weighted distance from the incumbent on the batch's replayed rows, or None if there is none."""
    rows, columns, teacher = scored.rows, scored.columns, trainer.teacher
    replayed = rows.spread(rows.replayed)
    if teacher is None or weight == 0 or not bool(replayed.any()):
        return None
    known = int((columns < len(teacher.items)).sum())  # columns ascend: those the teacher knows come first
    taught = teacher.moments(rows.take(rows.replayed.nonzero()[:, 0]))
    apart = distillation_loss(scored.users[replayed], scored.items[:known], taught, teacher.items[columns[:known]])
    return weight * replayed.float().mean() * apart
