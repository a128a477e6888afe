"""Sessions as rows for training: right-padded, set aside, replayed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sessions.data import PADDING, Sessions


@dataclass(frozen=True, slots=True)
class Rows:
    """Sessions of at least two clicks; each click is to be predicted from those before it.

    Args:
        tokens: Item indexes, oldest first, right-padded with 0, [M, L+1].
        lengths: Clicks of each row, [M].
    """

    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    def batches(self, size: int, generator: torch.Generator) -> Iterator["Rows"]:
        """Yield random batches whose rows are alike in length, so that little is padding."""
        order = torch.randperm(len(self), generator=generator)
        chunks = [chunk[self.lengths[chunk].argsort(stable=True)].split(size) for chunk in order.split(size * 16)]
        batches = [batch for chunk in chunks for batch in chunk]
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield self.take(batches[place])

    def take(self, rows: Tensor) -> "Rows":
        """Return some rows, trimmed to the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else self.tokens.shape[1]
        return Rows(self.tokens[rows, :longest], lengths)

    def joined(self, other: "Rows") -> "Rows":
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        tokens = [F.pad(part.tokens, (0, width - part.tokens.shape[1])) for part in (self, other)]
        return Rows(torch.cat(tokens), torch.cat([self.lengths, other.lengths]))

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.tokens.to(device), self.lengths.to(device))


def rows_of(sessions: Sessions, *, history_length: int) -> Rows:
    """Return the rows of the sessions that have something to predict; long ones keep their newest clicks.

    >>> rows_of(Sessions(np.array([1, 2, 3, 9]), np.array([0, 3, 4])), history_length=1).tokens.tolist()
    [[2, 3]]
    """
    kept = sessions.take(np.flatnonzero(sessions.lengths > 1))
    lengths = np.minimum(kept.lengths, history_length + 1)
    steps = np.arange(history_length + 1)
    inside = steps < lengths[:, None]
    source = np.where(inside, (kept.starts[1:] - lengths)[:, None] + steps, 0)
    tokens = np.where(inside, kept.items[source] if len(kept.items) else source, PADDING)
    return Rows(torch.from_numpy(tokens), torch.from_numpy(lengths))


def set_aside(sessions: Sessions, *, share: float) -> tuple[Sessions, Sessions]:
    """Return the older sessions of a period, and the newest ones.

    >>> older, newest = set_aside(Sessions(np.arange(1, 21), np.arange(0, 22, 2)), share=0.1)
    >>> len(older), newest.items.tolist()
    (9, [19, 20])
    """
    cut = len(sessions) - max(1, round(len(sessions) * share))
    return sessions.take(np.arange(cut)), sessions.take(np.arange(cut, len(sessions)))
