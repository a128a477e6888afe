"""What the heads learn from: visits, each a history, a list that was shown, and what came of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from learners.errors import InvalidRoundInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Visits in time order.

    Args:
        histories: Item indexes before the visit, right-padded with 0, oldest first, [V, L].
        lengths: Items in each history [V].
        shown: Item indexes of the list, right-padded with 0, [V, K]; column k is place k.
        clicked: Whether each was clicked, bool [V, K].
        carted: Whether it then went into the cart, bool [V, K]; never without a click.
        bought: Whether it then was bought, bool [V, K]; never without a click.
        buyer: Whether the person bought anything in the visit, bool [V].
        next_item: Item index looked at next after the history, [V]; 0 if none.

    Raises:
        InvalidRoundInputError: If the arrays contradict each other.
    """

    histories: Tensor
    lengths: Tensor
    shown: Tensor
    clicked: Tensor
    carted: Tensor
    bought: Tensor
    buyer: Tensor
    next_item: Tensor

    def __post_init__(self) -> None:
        """Check shapes, and that a click comes first."""
        visits = len(self.histories)
        for name in self.__slots__:
            if len(getattr(self, name)) != visits:
                raise InvalidRoundInputError(
                    name=name, found=f"{len(getattr(self, name))} rows", expected=f"{visits} rows"
                )
        for name in ("carted", "bought"):
            if bool((getattr(self, name) & ~self.clicked).any()):
                raise InvalidRoundInputError(name=name, found="set without a click", expected="a click first")
        if bool((self.clicked & (self.shown == 0)).any()):
            raise InvalidRoundInputError(name="clicked", found="set on padding", expected="set on items only")

    def __len__(self) -> int:
        """Visits."""
        return len(self.histories)

    def take(self, visits: Tensor) -> "Visits":
        """Return some visits, their histories trimmed to the longest of them."""
        longest = max([1, *self.lengths[visits].tolist()])
        taken = {name: getattr(self, name)[visits] for name in self.__slots__}
        return Visits(**(taken | {"histories": taken["histories"][:, :longest]}))

    def to(self, device: torch.device) -> "Visits":
        """Return the visits on another device."""
        return Visits(**{name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__})

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield visit numbers in random batches of alike history length, so that little is padding."""
        order = torch.randperm(len(self), generator=generator)
        chunks = [chunk[self.lengths[chunk].argsort(stable=True)].split(size) for chunk in order.split(size * 16)]
        batches = [batch for chunk in chunks for batch in chunk if len(batch)]
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[position]
