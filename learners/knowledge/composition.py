"""Adapter composition: several small changes to one base become one change, weighed by what validation says of them.

A change is a low-rank pair (LoRA's A and B) or the difference of all parameters from the base (a task vector). Low-rank
pairs put side by side are exactly the weighted sum of their products; nothing is lost, the rank grows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learners.knowledge.errors import FusionError
from learners.knowledge.fusion import State, require_agreement

GRID = (0.0, 0.5, 1.0, 1.5)  # multiples of an even share that a weight is tried at


@dataclass(frozen=True, slots=True)
class LowRankPair:
    """A low-rank change of one matrix: up @ down.

    Args:
        down: LoRA's A, [r, inputs].
        up: LoRA's B, already times alpha / r, [outputs, r].
    """

    down: Tensor
    up: Tensor

    def product(self) -> Tensor:
        """Return the change itself, [outputs, inputs]."""
        return self.up @ self.down


def concatenated(pairs: Sequence[LowRankPair], weights: Sequence[float]) -> LowRankPair:
    """Return one pair whose product is the weighted sum of the pairs' products; its rank is the sum of theirs.

    >>> one = LowRankPair(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]]))
    >>> other = LowRankPair(torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0]]))
    >>> concatenated([one, other], [1.0, 0.5]).product().tolist()
    [[2.0, 2.0]]

    Raises:
        FusionError: If there are none, weights are missing, or shapes differ.

    Source: Mangrulkar et al., `peft`, `add_weighted_adapter` with combination type "cat"; LoRA: Hu et al., ICLR 2022.
    """
    _require_weights(pairs, weights)
    if len({(pair.down.shape[1], pair.up.shape[0]) for pair in pairs}) != 1:
        raise FusionError(reason="low-rank pairs change matrices of different shapes")
    down = torch.cat([pair.down for pair in pairs])
    up = torch.cat([weight * pair.up for weight, pair in zip(weights, pairs, strict=True)], dim=1)
    return LowRankPair(down, up)


def composed(base: State, states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the base plus the weighted sum of what each model changed in it.

    Weights need not sum to 1: their sum is how far to go. Numbers that are not floating point are the base's.

    >>> base, one, other = ({"w": torch.tensor([value])} for value in (1.0, 3.0, 0.0))
    >>> composed(base, [one, other], [1.0, 0.5])["w"].tolist()
    [2.5]

    Raises:
        FusionError: If models and base differ in names or shapes, or weights are missing.

    Source: Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023, section 2.
    """
    _require_weights(states, weights)
    require_agreement([base, *states])
    found = {}
    for name, start in base.items():
        if not start.is_floating_point():
            found[name] = start.clone()
            continue
        moved = start.double()
        for weight, state in zip(weights, states, strict=True):
            moved = moved + weight * (state[name].double() - start.double())
        found[name] = moved.to(start.dtype)
    return found


def composition_weights(
    count: int, score: Callable[[Sequence[float]], float], *, grid: Sequence[float] = GRID, passes: int = 1
) -> tuple[list[float], float]:
    """Return weights that validation likes, and their score: even shares first, then one weight after another.

    Args:
        count: How many models; at least 1.
        score: Of weights, on validation; higher is better.
        grid: Multiples of 1 / count that each weight is tried at.
        passes: How often all weights are gone through.

    >>> composition_weights(2, lambda weights: 1 - abs(weights[0] - 0.75) - abs(weights[1]))
    ([0.75, 0.0], 1.0)

    Source: Huang et al., "LoraHub", COLM 2024: weights of composed adapters without gradients, here by coordinates.
    """
    weights = [1 / count] * count
    best = score(weights)
    for _ in range(passes):
        for place in range(count):
            for share in grid:
                tried = [*weights[:place], share / count, *weights[place + 1 :]]
                if tried != weights and (found := score(tried)) > best:
                    weights, best = tried, found
    return weights, best


def _require_weights(models: Sequence[object], weights: Sequence[float]) -> None:
    if not models or len(models) != len(weights) or not all(abs(weight) < float("inf") for weight in weights):
        raise FusionError(reason=f"there are {len(models)} changes and weights {list(weights)}; expected one each")
