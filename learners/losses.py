"""What a round minimises: ranking the true next item first, and staying close to the incumbent on what is replayed."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_loss(
    users: Tensor, columns: Tensor, targets: Tensor, weight: Tensor, *, log_chance: Tensor | None = None
) -> Tensor:
    """Return the weighted mean cross-entropy of the true next items among `columns`.

    Args:
        users: User vectors [P, D].
        columns: Item vectors that compete, [C, D]: the whole catalogue, or a sample of it.
        targets: Which column is true, [P].
        weight: Weight of each target, [P].
        log_chance: Log of each column's chance to be in the sample, [C]; None if nothing was left out. Subtracted from
            the scores, so that the sampled softmax aims at the full one.

    >>> two = torch.eye(2)
    >>> round(softmax_loss(two, two, torch.tensor([0, 1]), torch.ones(2)).item(), 4)  # log(1 + 1/e)
    0.3133

    Source: Jean et al., "On Using Very Large Target Vocabulary for NMT", ACL 2015, equation 8.
    """
    scores = users @ columns.T
    if log_chance is not None:
        scores = scores - log_chance
    losses = F.cross_entropy(scores.float(), targets, reduction="none")
    return (losses * weight).sum() / weight.sum()


def distillation_loss(users: Tensor, columns: Tensor, teacher_users: Tensor, teacher_columns: Tensor) -> Tensor:
    """Return the mean KL divergence of the student's ranking distribution from the teacher's.

    Args:
        users: The student's user vectors [P, D].
        columns: The student's item vectors [C, D], of the items that the teacher knows.
        teacher_users: The teacher's user vectors for the same moments [P, E].
        teacher_columns: The teacher's vectors of the same items [C, E].

    >>> two = torch.eye(2)
    >>> distillation_loss(two, two, two, two).item()
    0.0

    Source: Mi et al., "ADER", RecSys 2020, equation 4; Buzzega et al., "Dark Experience for General Continual
    Learning", NeurIPS 2020, which stores the teacher's scores where this computes them.
    """
    teacher = F.log_softmax((teacher_users @ teacher_columns.T).float(), dim=-1)
    student = F.log_softmax((users @ columns.T).float(), dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def sample_columns(targets: Tensor, pool: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the items that compete in one step: every target, and some of all others.

    Args:
        targets: True next items of the step, item indexes [P].
        pool: Items that may be drawn, [A].
        size: How many to draw uniformly, with repeats dropped.
        generator: Source of the draw.

    Returns:
        Item indexes [C], ascending, and the log of each one's chance to be among them [C].
    """
    drawn = pool[torch.randint(len(pool), (size,), generator=generator)]
    columns = torch.unique(torch.cat([targets, drawn]))
    # The step's own targets are in for certain, the rest by the draw: so weighted, the sum of exp(score) over them is
    # an unbiased estimate of the sum over all items.
    log_drawn = math.log(-math.expm1(size * math.log1p(-1 / len(pool)))) if len(pool) > 1 else 0.0
    return columns, torch.where(torch.isin(columns, targets), 0.0, log_drawn)
