"""The shops' seed models, and what they changed in one base; the fusing itself is `learners.knowledge`'s."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from learners.knowledge.contents import OF_THE_CATALOGUE
from learners.knowledge.sharing import Member, State, composition, uniform
from learners.model import SharedModel, capacity_for
from learners.releases import LoadedRelease, load_kept, load_release, save_candidate
from learners.round_input import RoundInput
from learners.rounds import run_round
from learners.strategies.anchors import FISHER

RANK = 4.0  # of the shops' LoRA adapters


def seed_model(round_input: RoundInput, folder: Path) -> Member:
    """Train a shop's model, and measure what it is sure of."""
    training = replace(round_input.training, strategy="ewc", strategy_settings={"samples": 96})
    folder.mkdir(parents=True)
    candidate = run_round(replace(round_input, training=training), folder).candidate
    assert candidate is not None, "a shop without purchases has no model"
    fisher = {
        name.removeprefix(FISHER): value
        for name, value in load_kept(candidate).items()
        if name.startswith(FISHER) and name != FISHER + OF_THE_CATALOGUE
    }
    return Member(load_release(candidate), fisher, torch.from_numpy(round_input.active))


def first_weights(round_input: RoundInput) -> State:
    """Return the trunk that every shop began with: the same seed gives all the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(round_input.seed)
        model = SharedModel(round_input.model, capacity=capacity_for(round_input.model, len(round_input.item_ids)))
    return {name: value for name, value in model.state_dict().items() if name != OF_THE_CATALOGUE}


def low_rank(
    members: Sequence[Member],
    inputs: Sequence[RoundInput],
    folder: Path,
    score: Callable[[LoadedRelease], float],
    *,
    epochs: int,
    learning_rate: float,
) -> tuple[LoadedRelease, list[float]]:
    """Let every shop learn a LoRA adapter on the uniform average, and put the adapters together, weights by validation.

    A pair put beside another adds up to the sum of their products (`composition.concatenated`), so what is composed
    here are the products, which the shops have merged.
    """
    start, begin = uniform(members, inputs[0]), folder / "base"
    items = torch.from_numpy(start.item_matrix)
    save_candidate(begin, model=start.model, item_matrix=items, item_ids=start.item_ids, parent=None, facts={})
    returned = []
    for shop, round_input in enumerate(inputs):
        training = replace(
            round_input.training,
            strategy="lora",
            strategy_settings={"rank": RANK, "alpha": 2 * RANK},
            epochs=epochs,
            learning_rate=learning_rate,
        )
        out = folder / f"adapter-{shop}"
        out.mkdir()
        candidate = run_round(replace(round_input, incumbent=begin, training=training), out).candidate
        assert candidate is not None, "a shop without purchases cannot train"
        returned.append(Member(load_release(candidate), {}, torch.from_numpy(round_input.active)))
    base = Member(start, {}, torch.from_numpy(inputs[0].active)).trunk
    return composition(returned, base, inputs[0], score)
