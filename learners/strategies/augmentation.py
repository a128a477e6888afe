"""Learn from what might have been as well: histories cropped, masked and reordered; texts with numbers left out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from learners.strategies.incumbent import Distillation

if TYPE_CHECKING:
    from learners.rounds.training import Scored, Trainer


@dataclass(frozen=True, kw_only=True)
class SequenceAugmentation(Distillation):
    """Let two altered copies of a history mean the same, and copies of other people's histories something else.

    Args:
        strength: Weight of the contrastive loss, above 0.
        crop: Share of a history that a crop leaves, above 0, at most 1.
        mask: Share of its items that a mask hides, above 0, below 1.
        reorder: Share of it that a reordering shuffles, above 0, at most 1.

    Source: Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022, equations 4 to 10 (CL4SRec).
    """

    strength: float = 0.1
    crop: float = 0.6
    mask: float = 0.3
    reorder: float = 0.6

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return the incumbent's distance and the contrastive loss of the batch."""
        apart, tokens = super().penalty(trainer, scored), scored.rows.tokens
        long = scored.rows.lengths >= 3  # of less nothing can be left out
        if int(long.sum()) < 2:
            return apart
        rows, lengths = tokens[long], scored.rows.lengths[long]
        views = [self._view(trainer, rows, lengths) for _ in range(2)]
        similar = views[0].float() @ views[1].float().T  # [B, B]; the diagonal are the pairs
        contrast = F.cross_entropy(similar, torch.arange(len(similar), device=similar.device))
        return self.strength * contrast + (0.0 if apart is None else apart)

    def _view(self, trainer: "Trainer", tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the user vectors of one altered copy of each history, [B, D]."""
        longest = trainer.model.config.history_length
        pairs = zip(tokens.tolist(), lengths.tolist(), strict=True)
        altered = [self.alter(row[:length], trainer.generator)[-longest:] for row, length in pairs]
        sizes = torch.tensor([len(row) for row in altered], device=tokens.device)
        padded = torch.tensor([row + [0] * (int(sizes.max()) - len(row)) for row in altered], device=tokens.device)
        present, places = torch.unique(padded, return_inverse=True)
        users = trainer.model(trainer.item_vectors(present)[places], sizes)
        last: Tensor = users[torch.arange(len(users), device=users.device), sizes - 1]
        return last

    def alter(self, items: list[int], generator: torch.Generator) -> list[int]:
        """Return a history cropped, masked or reordered, each as likely.

        >>> len(SequenceAugmentation(crop=0.5).alter([1, 2, 3, 4], torch.Generator().manual_seed(2)))
        2
        """
        which = int(torch.randint(3, (), generator=generator))
        if which == 1:
            hidden = (torch.rand(len(items), generator=generator) < self.mask).tolist()
            return [0 if gone else item for item, gone in zip(items, hidden, strict=True)]
        size = max(1, int(len(items) * (self.crop if which == 0 else self.reorder)))
        start = int(torch.randint(len(items) - size + 1, (), generator=generator))
        part = items[start : start + size]
        if which == 0:
            return part
        order = torch.randperm(size, generator=generator).tolist()
        return [*items[:start], *(part[place] for place in order), *items[start + size :]]


@dataclass(frozen=True, kw_only=True)
class TextAugmentation(Distillation):
    """Hide a random part of every item's text vector at every step, so that no item hangs on a few of its numbers.

    The paper cuts numbers out of the embeddings inside the text encoder; a round has the encoder's vectors only.

    Args:
        share: Share of the numbers that is hidden, above 0, below 1.

    Source: Shen et al., "A Simple but Tough-to-Beat Data Augmentation Approach for Natural Language Understanding and
    Generation", 2020, feature cutoff.
    """

    share: float = 0.1

    def texts(self, vectors: Tensor) -> Tensor:
        """Return the vectors with numbers left out, the others made up for them."""
        return F.dropout(vectors, self.share)
