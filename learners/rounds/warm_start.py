"""Warm start of items that no round has learned yet: their rows begin where those of their kin stand."""

import torch
from torch import Tensor

from learners.model import SharedModel

KIN = 10  # learned items alike in text that a newcomer starts from
LEARNED_ENOUGH = 5  # interactions below which an item has nothing to teach
SHARPNESS = 10.0  # of the softmax over cosines; tried on Online Retail


@torch.no_grad()
def warm_start(
    model: SharedModel,
    *,
    learned: Tensor,
    text_vectors: Tensor,
    neighbours: Tensor | None = None,
    strengths: Tensor | None = None,
) -> int:
    """Set the id embeddings of items without a lesson to the mean of their kin's; returns how many were set.

    Kin are the learned items most alike in text, weighed by a softmax over cosines and shrunk by the best of them, and,
    where fast memory has linked a newcomer to learned items, those: each half. An item with neither keeps its row.

    Args:
        model: Its rows are changed in place.
        learned: Interactions with each item that earlier rounds learned from, [N]; 0 is a newcomer. Item 0 is padding.
        text_vectors: Unit text vectors, or zeros, [N, T].
        neighbours: Item indexes that each item with `learned == 0` is linked to, in order, 0 for none, [n, M].
        strengths: How strongly, not negative, [n, M].

    Source: Volkovs et al., "DropoutNet", NeurIPS 2017, and Pan et al., "Warm Up Cold-start Advertisements", SIGIR 2019:
    content gives a new item's first embedding; here without a network of its own.
    """
    own = torch.arange(len(learned)) < model.capacity  # items beyond share rows
    own[0] = False
    teaches = (learned >= LEARNED_ENOUGH) & own
    donors, newcomers = teaches.nonzero()[:, 0], ((learned == 0) & own).nonzero()[:, 0]
    if not len(donors) or not len(newcomers):
        return 0
    rows = model.id_embedding.weight
    alike, described = _by_text(rows, donors, text_vectors[donors], text_vectors[newcomers])
    if neighbours is not None and strengths is not None:
        theirs = own[learned == 0]  # which of the links are a newcomer's with a row of its own
        linked, met = _by_links(rows, teaches, neighbours[theirs], strengths[theirs])
        both = described & met
        alike = torch.where(both[:, None], (alike + linked) / 2, torch.where(met[:, None], linked, alike))
        described = described | met
    rows[newcomers[described]] = alike[described].to(rows.dtype)
    return int(described.sum())


def _by_text(rows: Tensor, donors: Tensor, taught: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row of the donors alike in text [n, D], and where there is a text to go by [n]."""
    means, found = [], []
    for part in new.split(1_024):  # [n, donors] at once would not fit for a large catalogue
        cosines, places = (part @ taught.T).topk(min(KIN, len(donors)), dim=1)
        share = torch.softmax(SHARPNESS * cosines, dim=1) * cosines[:, :1].clamp(0, 1)
        means.append(torch.einsum("nk,nkd->nd", share, rows[donors[places]]))
        found.append(cosines[:, 0] > 0)
    return torch.cat(means), torch.cat(found)


def _by_links(rows: Tensor, teaches: Tensor, neighbours: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row of the learned items linked to each newcomer [n, D], and where there are any [n]."""
    strengths = torch.where(teaches[neighbours], strengths, torch.zeros(()))
    total = strengths.sum(dim=1, keepdim=True)
    share = strengths / torch.where(total > 0, total, torch.ones(()))
    return torch.einsum("nm,nmd->nd", share, rows[neighbours]), total[:, 0] > 0
