"""Ways of making one model of several, by name, each with what it chose on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from learners.knowledge.errors import FusionError
from learners.knowledge.fusion import weighted_average
from learners.knowledge.opinions import Opinions, chosen_weights
from learners.knowledge.sharing import (
    Member,
    assembled,
    composition,
    distilled,
    fisher,
    fused_items,
    measured_fisher,
    soup,
    uniform,
)
from learners.releases.release import LoadedRelease
from learners.rounds.material import RoundInput
from learners.rounds.round import judge_releases

NDCG = "ndcg_10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One model made of several.

    Args:
        release: It.
        chosen: What validation said: weights, members, nothing.
    """

    release: LoadedRelease
    chosen: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What every method is given.

    Args:
        members: The models.
        inputs: Of each shop: rows that may be trained on, and the window that chooses weights. One catalogue in all.
        epochs: Passes over each shop's rows, of methods that train.
        learning_rate: Theirs.
    """

    members: Sequence[Member]
    inputs: Sequence[RoundInput]
    epochs: int = 4
    learning_rate: float = 1e-3

    def score(self, release: LoadedRelease) -> float:
        """Return NDCG@10 on validation, the mean over shops."""
        return float(np.mean(ndcg_at(release, self.inputs)))

    def feedback(self) -> list[list[float]]:
        """Return the members' weights at each shop that follow from its validation."""
        found = []
        for shop in self.inputs:
            sells = torch.from_numpy(shop.active)
            asked = Opinions.of(self.members, shop.newest_histories, shop.newest_targets, sells)
            found.append(list(chosen_weights(asked).values))
        return found


def share(method: str, sharing: Sharing) -> Shared:
    """Make one model of several.

    Args:
        method: A name of `METHODS`.
        sharing: The models, and what weights are chosen on.

    Raises:
        FusionError: If there is no such method, fewer than two models, or the models do not agree. Models that are told
            of different things about items agree by distillation alone, if one is told of what the inputs tell.
    """
    if method not in METHODS:
        raise FusionError(reason=f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if len(sharing.members) < 2:
        raise FusionError(reason=f"there are {len(sharing.members)} models; expected at least 2")
    wanted = sharing.inputs[0].model.layout
    unlike = [member.layout for member in sharing.members if member.layout != wanted]
    if unlike and method not in BY_LOGITS:
        remedy = f"{method} needs models that are told of the same; {' or '.join(BY_LOGITS)} does not"
        raise FusionError(reason=f"one is told of {unlike[0]}, the settings' model of {wanted}: {remedy}")
    if len(unlike) == len(sharing.members):
        remedy = "expected at least one model like the settings', for the student to begin as"
        raise FusionError(reason=f"all are told of {unlike[0]}, the settings' model of {wanted}; {remedy}")
    return METHODS[method](sharing)


def ndcg_at(release: LoadedRelease, inputs: Sequence[RoundInput]) -> list[float]:
    """Return a model's NDCG@10 on the newest window of each shop."""
    verdicts = [judge_releases(release, None, shop).evidence["candidate"] for shop in inputs]
    return [float(said.get("newest", {}).get(NDCG, 0.0)) for said in verdicts]


def _uniform(sharing: Sharing) -> Shared:
    return Shared(release=uniform(sharing.members, sharing.inputs[0]), chosen={})


def _weighted(sharing: Sharing) -> Shared:
    weights = np.mean(sharing.feedback(), axis=0).tolist()
    trunk = weighted_average([member.trunk for member in sharing.members], weights)
    release = assembled(trunk, fused_items(sharing.members, weights), sharing.inputs[0])
    return Shared(release=release, chosen={"weights": weights})


def _soup(sharing: Sharing) -> Shared:
    release, chosen = soup(sharing.members, sharing.inputs[0], sharing.score)
    return Shared(release=release, chosen={"members": [int(one) for one in chosen]})


def _fisher(sharing: Sharing) -> Shared:
    members, measured = [], 0
    for number, member in enumerate(sharing.members):
        if not member.fisher:  # nobody kept it: what the model is sure of is measured on a shop's rows
            shop = sharing.inputs[number % len(sharing.inputs)]
            member = replace(member, fisher=measured_fisher(member.release, shop))  # noqa: PLW2901 - completed
            measured += 1
        members.append(member)
    return Shared(release=fisher(members, sharing.inputs[0]), chosen={"measured_here": measured})


def _composition(sharing: Sharing) -> Shared:
    base = weighted_average([member.trunk for member in sharing.members])
    release, weights = composition(sharing.members, base, sharing.inputs[0], sharing.score)
    return Shared(release=release, chosen={"weights": weights})


def _distillation(sharing: Sharing) -> Shared:
    weights, wanted = sharing.feedback(), sharing.inputs[0].model.layout
    alike = [member for member in sharing.members if member.layout == wanted]  # the others are heard, not averaged
    release = distilled(
        uniform(alike, sharing.inputs[0]),
        sharing.members,
        sharing.inputs,
        weights,
        epochs=sharing.epochs,
        learning_rate=sharing.learning_rate,
    )
    return Shared(release=release, chosen={"weights_at_each_shop": weights})


METHODS: Mapping[str, Callable[[Sharing], Shared]] = {
    "uniform": _uniform,
    "weighted": _weighted,
    "soup": _soup,
    "fisher": _fisher,
    "composition": _composition,
    "distillation": _distillation,
}
BY_LOGITS = ("distillation",)  # models meet in what they say, whatever they are told of items
