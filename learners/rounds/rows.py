"""A round's rows, ready for the model: right-padded, cut into batches of alike length, validation targets set aside."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learners.rounds.material import Batching, RoundInput


@dataclass(frozen=True, slots=True)
class Rows:
    """Right-padded rows; position t of `targets` says whether token t is to be predicted from what is before it.

    Args:
        tokens: Item indexes [M, L+1].
        targets: bool [M, L+1].
        lengths: Tokens in each row [M].
        weight: [M].
        replayed: bool [M].
        extras: What a strategy keeps with its rows, by name; M rows each.
    """

    tokens: Tensor
    targets: Tensor
    lengths: Tensor
    weight: Tensor
    replayed: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Rows."""
        return len(self.tokens)

    def take(self, rows: Tensor) -> "Rows":
        """Return some rows, trimmed to the longest of them."""
        lengths = self.lengths[rows]
        longest = max(2, int(lengths.max()))  # one input and one target at least
        return Rows(
            self.tokens[rows, :longest],
            self.targets[rows, :longest],
            lengths,
            self.weight[rows],
            self.replayed[rows],
            {name: values[rows] for name, values in self.extras.items()},
        )

    def spread(self, per_row: Tensor) -> Tensor:
        """Return a value per row as a value per target, [P]."""
        return per_row[:, None].expand_as(self.targets)[self.targets]

    def to(self, device: torch.device) -> "Rows":
        """Return the rows on another device."""
        extras = {name: values.to(device, non_blocking=True) for name, values in self.extras.items()}
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__ if name != "extras"}
        return Rows(**moved, extras=extras)

    def batches(self, size: int, generator: torch.Generator, *, by: Batching = "rows") -> Iterator[Tensor]:
        """Yield row numbers in random batches whose rows are alike in length, so that little is padding.

        Args:
            size: Rows of a batch; by `targets` on average.
            generator: Source of the order.
            by: What batches have equally many of. By `rows`, a target among few counts more than one among many,
                because a step takes the mean of its targets.
        """
        order = torch.randperm(len(self), generator=generator)
        alike = [chunk[self.lengths[chunk].argsort(stable=True)] for chunk in order.split(size * 16)]
        batches = [
            batch for chunk in alike for batch in (chunk.split(size) if by == "rows" else self._even(chunk, size))
        ]
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[position]

    def _even(self, rows: Tensor, size: int) -> list[Tensor]:
        """Return rows, in their order, as at most so many batches as by size, of about equally many targets each."""
        counts = self.targets[rows].sum(dim=1)
        batches = math.ceil(len(rows) / size)
        middles = counts.cumsum(0) - counts / 2  # a row goes where the middle of its targets falls
        place = (middles * batches / counts.sum()).long().clamp(max=batches - 1)
        return [rows[place == number] for number in range(batches) if bool((place == number).any())]


def prepare(round_input: RoundInput, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows to stop early on, both without rows that have nothing to predict.

    The validation targets are the newest ones of a few new rows: training sees them neither as targets nor as inputs.
    """
    mask = np.concatenate([np.zeros((len(round_input.tokens), 1), np.bool_), round_input.loss_mask], axis=1)
    held_out = np.zeros_like(mask)
    fresh = np.flatnonzero(~round_input.replayed & mask[:, -1] & (round_input.tokens[:, -2] > 0))
    held = rng.permutation(fresh)[: int(len(fresh) * round_input.training.validation_share)]
    held_out[held, -1] = True
    return _rows(round_input, mask & ~held_out), _rows(round_input, held_out)


def _rows(round_input: RoundInput, targets: npt.NDArray[np.bool_]) -> Rows:
    kept = np.flatnonzero(targets.any(axis=1))
    tokens, targets = round_input.tokens[kept].astype(np.int64), targets[kept]
    lengths = (tokens > 0).sum(axis=1)
    width = tokens.shape[1]
    # Left padding becomes right padding: column t of the result is column t + (padding) of the source.
    source = np.arange(width) + (width - lengths)[:, None]
    inside = source < width
    source = np.minimum(source, width - 1)
    return Rows(
        tokens=torch.from_numpy(np.where(inside, np.take_along_axis(tokens, source, axis=1), 0)),
        targets=torch.from_numpy(inside & np.take_along_axis(targets, source, axis=1)),
        lengths=torch.from_numpy(lengths),
        weight=torch.from_numpy(round_input.weight[kept].astype(np.float32)),
        replayed=torch.from_numpy(round_input.replayed[kept]),
        extras={name: torch.from_numpy(values[kept]) for name, values in round_input.extras.items()},
    )
