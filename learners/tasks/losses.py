"""Losses by name: what a round of a task minimises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FOCUS = 2.0  # gamma of the focal loss
TEMPERATURE = 0.1  # of the contrastive loss, in units of the head's answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said of a batch, and what was right.

    Args:
        outputs: [B, C] or [B].
        labels: Class indexes int64 [B]; or numbers [B], standardised where the loss asks for it.
        weights: Of the classes, [C]; ones where classes count alike.
        lefts: Of a pair: which left text, int64 [B]; alike texts have the same number.
        rights: The same of the right text.
        crossed: Of a pair: what the model says of every left with every right, [B, B].
    """

    outputs: Tensor
    labels: Tensor
    weights: Tensor
    lefts: Tensor
    rights: Tensor
    crossed: Callable[[], Tensor]


def cross_entropy(answers: Answers) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(answers.outputs, answers.labels)


def weighted_cross_entropy(answers: Answers) -> Tensor:
    """Cross-entropy in which each class counts by the inverse of how often it comes."""
    return F.cross_entropy(answers.outputs, answers.labels, weight=answers.weights)


def focal(answers: Answers) -> Tensor:
    """Weighted cross-entropy that looks away from what is easy.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5.
    """
    log_chance = F.log_softmax(answers.outputs, dim=-1).gather(1, answers.labels[:, None])[:, 0]
    weights = answers.weights[answers.labels]
    return -(weights * (1 - log_chance.exp()) ** FOCUS * log_chance).sum() / weights.sum()


def mse(answers: Answers) -> Tensor:
    """Mean squared error, in standard deviations of the label."""
    return F.mse_loss(answers.outputs, answers.labels)


def huber(answers: Answers) -> Tensor:
    """As `mse`, but far-off labels pull no harder than one standard deviation."""
    return F.huber_loss(answers.outputs, answers.labels)


def binary(answers: Answers) -> Tensor:
    """Cross-entropy of yes or no; labels in [0, 1] may be anything between."""
    return F.binary_cross_entropy_with_logits(answers.outputs, answers.labels)


def ranking(answers: Answers) -> Tensor:
    """For each two rights of one left: the log odds that the better one is in front.

    Source: Burges et al., "Learning to Rank using Gradient Descent", ICML 2005, equation 3.
    """
    better = (answers.labels[:, None] > answers.labels) & (answers.lefts[:, None] == answers.lefts)
    if not better.any():
        return answers.outputs.sum() * 0.0
    apart = answers.outputs[:, None] - answers.outputs
    return F.softplus(-apart[better]).mean()


def contrastive(answers: Answers) -> Tensor:
    """Find each left's own right among all rights of the batch; a pair with a label below the mean is only another's.

    Source: Henderson et al., "Efficient Natural Language Response Suggestion", 2017, section 4.4.
    """
    positive = answers.labels >= 0
    if not positive.any():
        return answers.outputs.sum() * 0.0
    alike = (answers.lefts[:, None] == answers.lefts) | (answers.rights[:, None] == answers.rights)
    alike &= ~torch.eye(len(alike), dtype=torch.bool)
    scores = (answers.crossed() / TEMPERATURE).masked_fill(alike, -torch.inf)
    own = torch.arange(len(scores))
    return F.cross_entropy(scores[positive], own[positive])


LOSS_FUNCTIONS: Mapping[str, Callable[[Answers], Tensor]] = {
    "cross_entropy": cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
    "focal": focal,
    "mse": mse,
    "huber": huber,
    "binary": binary,
    "ranking": ranking,
    "contrastive": contrastive,
}
