"""What a round minimises: ranking the true next item first, and staying close to the incumbent on what is replayed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from learners.rounds import softmax_chunks


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
    if log_chance is None and _by_chunks(users, columns):
        return softmax_chunks.cross_entropy(users, columns, targets, weight / weight.sum())
    scores = users @ columns.T
    if log_chance is not None:
        scores = scores - log_chance
    losses = F.cross_entropy(scores.float(), targets, reduction="none")
    return (losses * weight).sum() / weight.sum()


def _by_chunks(users: Tensor, columns: Tensor) -> bool:
    """Say whether a loss is to be learned from, in full precision, on a CPU: chunks are twice as fast there."""
    plain = users.device.type == "cpu" and users.dtype == columns.dtype == torch.float32
    return plain and torch.is_grad_enabled() and (users.requires_grad or columns.requires_grad)


def gbce_loss(
    users: Tensor,
    columns: Tensor,
    targets: Tensor,
    weight: Tensor,
    *,
    log_chance: Tensor | None = None,
    calibration: float = 0.75,
) -> Tensor:
    """Return the weighted mean gBCE: yes or no for every item by itself, the yes tempered for how few nos were sampled.

    Plain binary cross-entropy on sampled negatives believes every item to be more likely than it is. Raising the
    positive's probability to the power beta undoes that as far as `calibration` asks.

    Args:
        users: User vectors [P, D].
        columns: Item vectors that compete, [C, D]: the whole catalogue, or a uniform sample of it.
        targets: Which column is true, [P].
        weight: Weight of each target, [P].
        log_chance: Log of each column's chance to be in the sample, [C]; None if nothing was left out, and then beta
            is 1: plain binary cross-entropy.
        calibration: t in [0, 1]; 0 is plain binary cross-entropy, 1 aims at true probabilities.

    >>> two = torch.eye(2)
    >>> round(gbce_loss(two, two, torch.tensor([0, 1]), torch.ones(2)).item(), 4)  # (log(1 + 1/e) + log 2) / 2
    0.5032

    Source: Petrov & Macdonald, "gSASRec", RecSys 2023, equations 8 and 10.
    """
    scores = (users @ columns.T).float()
    chance = torch.ones_like(scores[0]) if log_chance is None else log_chance.exp()
    rate = chance.min()  # alpha: the share of the catalogue that was drawn
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    # Other rows' targets are in for certain: with weight alpha / 1 they count as if they had been drawn like the rest.
    counts = (rate / chance).expand_as(scores).scatter(1, targets[:, None], 0.0)  # [P, C]
    positive = beta * F.softplus(-scores.gather(1, targets[:, None])[:, 0])
    negative = (counts * F.softplus(scores)).sum(dim=1)
    losses = (positive + negative) / (1 + counts.sum(dim=1))
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
    if _by_chunks(users, columns):
        return softmax_chunks.divergence(users, columns, teacher_users, teacher_columns) / len(users)
    teacher = F.log_softmax((teacher_users @ teacher_columns.T).float(), dim=-1)
    student = F.log_softmax((users @ columns.T).float(), dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def sample_columns(
    targets: Tensor, pool: Tensor, *, size: int, generator: torch.Generator, popularity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw the items that compete in one step: every target, and some of all others.

    Args:
        targets: True next items of the step, item indexes [P].
        pool: Items that may be drawn, ascending, [A].
        size: How many to draw, with repeats dropped.
        generator: Source of the draw.
        popularity: How often each item of the pool is drawn, relative to the others, above 0, [A]; None: all alike.

    Returns:
        Item indexes [C], ascending, and the log of each one's chance to be among them [C]: what a sampled softmax
        takes off the scores (the logQ correction).

    Source: Bengio & Senecal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
    Model", IEEE TNN 2008; Yi et al., "Sampling-Bias-Corrected Neural Modeling", RecSys 2019, equation 3.
    """
    if popularity is None:
        places = torch.randint(len(pool), (size,), generator=generator)
        share = torch.full((1,), 1 / len(pool), dtype=torch.float64).expand(len(pool))
    else:
        places = torch.multinomial(popularity, size, replacement=True, generator=generator)
        share = popularity.double() / popularity.double().sum()
    columns = torch.unique(torch.cat([targets, pool[places]]))
    # The step's own targets are in for certain, the rest by the draw: so weighted, the sum of exp(score) over them is
    # an unbiased estimate of the sum over all items.
    own = torch.searchsorted(pool, columns).clamp(max=len(pool) - 1)  # right for all that were drawn
    log_drawn = torch.log(-torch.expm1(size * torch.log1p(-share[own]))).float()
    return columns, torch.where(torch.isin(columns, targets), 0.0, log_drawn)


LOSSES = {"softmax": softmax_loss, "gbce": gbce_loss}
