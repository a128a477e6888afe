"""Many models become one: averages of weights where architectures agree, item by item where catalogues differ.

A model is its state: parameter name -> tensor. Parts that do not agree in name and shape cannot be averaged; fuse those
by logits (`learners.knowledge.distillation`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learners.knowledge.errors import FusionError

State = Mapping[str, Tensor]
Score = Callable[[State], float]


@dataclass(frozen=True, slots=True)
class Soup:
    """What `greedy_soup` cooked.

    Args:
        state: The average of the chosen models.
        chosen: Their positions, in the order in which they were taken.
        score: Of the average, on validation.
        scores: Of every model alone, in the order given.
    """

    state: dict[str, Tensor]
    chosen: tuple[int, ...]
    score: float
    scores: tuple[float, ...]


def weighted_average(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Return the average of models of one architecture.

    Numbers that are not floating point (counters, indexes) cannot be averaged and must be equal.

    Args:
        states: At least one; the same names and shapes in each.
        weights: At least 0, not all 0; they need not sum to 1. None: uniform.

    Raises:
        FusionError: If the models do not agree.

    >>> one, other = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
    >>> weighted_average([one, other])["w"].tolist(), weighted_average([one, other], [3, 1])["w"].tolist()
    ([2.0, 2.0], [1.0, 2.0])

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018;
        Wortsman et al., "Model soups", ICML 2022, uniform soup.
    """
    require_agreement(states)
    shares = _shares(weights, len(states))
    return {name: _mean(name, [state[name] for state in states], shares) for name in states[0]}


def greedy_soup(states: Sequence[State], score: Score) -> Soup:
    """Return the average of the models that make it better on validation, tried from the best alone downwards.

    It is never worse on validation than the best single model.

    Args:
        states: At least one, of one architecture.
        score: Of a state on validation; higher is better.

    Raises:
        FusionError: If the models do not agree.

    Source: Wortsman et al., "Model soups", ICML 2022, Recipe 1 (a model stays if the score does not fall).
    """
    require_agreement(states)
    scores = [score(state) for state in states]
    best, *rest = sorted(range(len(states)), key=lambda index: -scores[index])
    chosen, soup, reached = [best], dict(states[best]), scores[best]
    for index in rest:
        tried = weighted_average([states[one] for one in (*chosen, index)])
        if (found := score(tried)) >= reached:
            chosen.append(index)
            soup, reached = tried, found
    return Soup(soup, tuple(chosen), reached, tuple(scores))


def fisher_weighted(
    states: Sequence[State],
    fishers: Sequence[State],
    weights: Sequence[float] | None = None,
    *,
    floor: float = 1e-10,
) -> dict[str, Tensor]:
    """Return the average in which every parameter counts for as much as its model is sure of it.

    Args:
        states: At least one, of one architecture.
        fishers: Of each model the diagonal of its Fisher information: the mean squared gradient of the log likelihood.
            A parameter that a Fisher does not name counts with `floor`.
        weights: Of the models, as in `weighted_average`.
        floor: Least certainty, above 0: where no model is sure of a parameter, this is the plain average.

    Raises:
        FusionError: If the models do not agree, or a Fisher is negative or of another shape.

    >>> states = [{"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([4.0, 4.0])}]
    >>> sure = [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([1.0, 1.0])}]
    >>> [round(value, 3) for value in fisher_weighted(states, sure)["w"].tolist()]
    [1.0, 4.0]

    Source: Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022, equation 3.
    """
    require_agreement(states)
    if len(fishers) != len(states):
        raise FusionError(reason=f"there are {len(states)} models and {len(fishers)} Fisher diagonals")
    shares = _shares(weights, len(states))
    fused = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            fused[name] = _mean(name, [state[name] for state in states], shares)
            continue
        sure = [
            share * (_certainty(name, fisher, first) + floor) for share, fisher in zip(shares, fishers, strict=True)
        ]
        total = torch.stack(sure).sum(dim=0)
        mean = sum(
            (certainty * state[name].double() for certainty, state in zip(sure, states, strict=True)),
            torch.zeros_like(first, dtype=torch.float64),
        )
        fused[name] = (mean / total).to(first.dtype)
    return fused


def fuse_agreeing(
    states: Sequence[State], fuse: Callable[[Sequence[State]], Mapping[str, Tensor]]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Fuse what agrees in name and shape, layer by layer, and keep the rest of the first model.

    Args:
        states: At least one; architectures may differ.
        fuse: Fuses models of one architecture, e.g. `weighted_average`.

    Returns:
        The state, and the names that were kept from the first because the others disagree.

    >>> one = {"body": torch.tensor([0.0]), "head": torch.zeros(2)}
    >>> other = {"body": torch.tensor([2.0]), "head": torch.zeros(3)}
    >>> state, kept = fuse_agreeing([one, other], weighted_average)
    >>> state["body"].tolist(), kept
    ([1.0], ('head',))
    """
    if not states:
        raise FusionError(reason="there are none")
    first = states[0]
    agreed = [
        name
        for name, value in first.items()
        if all(name in state and state[name].shape == value.shape for state in states)
    ]
    fused = fuse([{name: state[name] for name in agreed} for state in states]) if agreed else {}
    return {**first, **fused}, tuple(name for name in first if name not in fused)


def fuse_rows(
    tables: Sequence[tuple[Sequence[str], Tensor]], weights: Sequence[float] | None = None
) -> tuple[list[str], Tensor]:
    """Average vectors of items that several catalogues share; an item of one catalogue keeps its vector.

    Args:
        tables: Of each model its item_ids, n of them, and their vectors [n, D].
        weights: Of the models, as in `weighted_average`.

    Returns:
        All item_ids in the order of their first appearance, and their vectors [N, D].

    Raises:
        FusionError: If widths differ.

    >>> ids, rows = fuse_rows([(["a", "b"], torch.tensor([[1.0], [2.0]])), (["b", "c"], torch.tensor([[4.0], [5.0]]))])
    >>> ids, rows[:, 0].tolist()
    (['a', 'b', 'c'], [1.0, 3.0, 5.0])
    """
    widths = {int(rows.shape[1]) for _, rows in tables}
    if len(widths) != 1:
        raise FusionError(reason=f"item vectors have widths {sorted(widths)}; expected one width")
    place = {item_id: index for index, item_id in enumerate(dict.fromkeys(one for ids, _ in tables for one in ids))}
    total, weight = torch.zeros(len(place), widths.pop(), dtype=torch.float64), torch.zeros(len(place), 1)
    for share, (ids, rows) in zip(_shares(weights, len(tables)), tables, strict=True):
        into = torch.tensor([place[item_id] for item_id in ids], dtype=torch.long)
        total.index_add_(0, into, share * rows.double())
        weight.index_add_(0, into, torch.full((len(ids), 1), share))
    return list(place), (total / weight.clamp(min=1e-12)).to(tables[0][1].dtype)


def _mean(name: str, values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    first = values[0]
    if not first.is_floating_point():
        if not all(torch.equal(value, first) for value in values):
            raise FusionError(reason="whole numbers cannot be averaged", names=[name])
        return first.clone()
    mean = sum((share * value.double() for share, value in zip(shares, values, strict=True)), torch.zeros(()).double())
    return mean.to(first.dtype)


def _certainty(name: str, fisher: State, like: Tensor) -> Tensor:
    found = fisher.get(name)
    if found is None:
        return torch.zeros_like(like, dtype=torch.float64)
    if found.shape != like.shape or not bool(torch.isfinite(found).all()) or bool((found < 0).any()):
        raise FusionError(reason="a Fisher diagonal is negative, not finite or of another shape", names=[name])
    return found.double()


def require_agreement(states: Sequence[State]) -> None:
    """Refuse models that differ in names or shapes, and no models at all.

    Raises:
        FusionError: If they do.
    """
    if not states:
        raise FusionError(reason="there are none")
    first = states[0]
    for state in states[1:]:
        names = [
            *(name for name in first if name not in state or state[name].shape != first[name].shape),
            *(name for name in state if name not in first),
        ]
        if names:
            raise FusionError(reason="they differ in names or shapes", names=names)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if len(weights) != count or any(not 0 <= weight < float("inf") for weight in weights) or not sum(weights) > 0:
        raise FusionError(reason=f"weights are {list(weights)}; expected {count} of at least 0, not all 0")
    return [weight / sum(weights) for weight in weights]
