"""From several models to one: what `learners.knowledge.fusion`, `.composition` and `.distillation` do, on real models.

All fused models have the same item vectors, those of the models averaged where several know an item; the methods differ
in how they make the trunk, and in what they train afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learners.items.layout import Layout
from learners.knowledge.composition import composed, composition_weights
from learners.knowledge.contents import OF_THE_CATALOGUE
from learners.knowledge.distillation import distillation_loss, mixed_targets
from learners.knowledge.errors import FusionError
from learners.knowledge.fusion import fisher_weighted, fuse_rows, greedy_soup, weighted_average
from learners.model import SharedModel, capacity_for
from learners.releases.release import LoadedRelease, load_release, save_candidate
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round
from learners.rounds.rows import prepare
from learners.rounds.training import Teacher, Trainer
from learners.strategies import strategy_named
from learners.strategies.anchors import FISHER

State = dict[str, Tensor]
_SCALE = "scale."  # middle and spread of pictures; see `learners.model.Standard`
LABELS = 0.5  # share of a student's loss that is what people really bought; the rest is what the teachers say


@dataclass(frozen=True)
class Member:
    """One of the models that become one.

    Args:
        release: As it serves.
        fisher: Diagonal of its Fisher information, by parameter, but of the item rows.
        knows: Items that it learned about, bool [N].
    """

    release: LoadedRelease
    fisher: State
    knows: Tensor

    @property
    def layout(self) -> Layout:
        """What it is told of items."""
        return self.release.model.config.layout

    @property
    def trunk(self) -> State:
        """All parameters but the item rows."""
        return {name: value for name, value in self.release.model.state_dict().items() if name != OF_THE_CATALOGUE}


def fused_items(members: Sequence[Member], weights: Sequence[float] | None = None) -> Tensor:
    """Return the vectors of all items, [N, D]: averaged where several models learned them; 0 where none did."""
    tables = []
    for member in members:
        indexes = member.knows.nonzero()[:, 0].tolist()
        tables.append(([str(index) for index in indexes], torch.from_numpy(member.release.item_matrix)[indexes]))
    ids, rows = fuse_rows(tables, weights)
    vectors = torch.zeros(len(members[0].knows), rows.shape[1])
    if not ids:
        return vectors
    vectors[[int(one) for one in ids]] = rows
    return vectors


def assembled(trunk: Mapping[str, Tensor], vectors: Tensor, round_input: RoundInput) -> LoadedRelease:
    """Return a model that has this trunk and these item vectors; items whose vector is 0 are what describes them."""
    model = SharedModel(round_input.model, capacity=capacity_for(round_input.model, len(vectors)))
    model.load_state_dict(dict(trunk), strict=False)
    texts = torch.from_numpy(round_input.text_vectors)
    with torch.no_grad():
        known = vectors.any(dim=1, keepdim=True)
        model.id_embedding.weight[: len(vectors)] = torch.where(known, vectors - model.described(texts), 0.0)
        items = model.item_vectors(texts, torch.arange(len(vectors)))
        items[0] = 0
    return LoadedRelease(version=0, item_ids=round_input.item_ids, model=model, item_matrix=items, manifest={})


def measured_fisher(release: LoadedRelease, round_input: RoundInput, *, samples: int = 96) -> State:
    """Return the diagonal of a model's Fisher information on a round's rows, by parameter, but of the item rows.

    Args:
        release: The model; it is not changed.
        round_input: Whose new rows are looked at; its items are the release's.
        samples: Most rows, each with a gradient of its own.

    Source: Kirkpatrick et al., PNAS 114(13), 2017; see `learners.strategies.anchors`.
    """
    model = SharedModel(release.model.config, capacity=release.model.capacity)
    model.load_state_dict(release.model.state_dict())
    rows, _ = prepare(round_input, np.random.default_rng(round_input.seed))
    if not len(rows):
        raise FusionError(reason="there are no rows to measure a Fisher diagonal on")
    strategy = strategy_named("ewc", {"samples": samples})
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(
            model,
            text_vectors=torch.from_numpy(round_input.text_vectors),
            active=torch.from_numpy(round_input.active),
            config=round_input.training.of_first_round(),
            strategy=strategy,
            epochs=1,
            learning_rate=round_input.training.learning_rate,
            seed=round_input.seed,
            teacher=None,
        )
        strategy.begin(trainer, rows)
        measured = strategy.finish(trainer, rows)
    return {name.removeprefix(FISHER): value for name, value in measured.items() if name != FISHER + OF_THE_CATALOGUE}


def uniform(members: Sequence[Member], round_input: RoundInput) -> LoadedRelease:
    """Average all trunks alike."""
    return assembled(weighted_average([member.trunk for member in members]), fused_items(members), round_input)


def fisher(members: Sequence[Member], round_input: RoundInput) -> LoadedRelease:
    """Average every parameter by how sure its model is of it."""
    trunk = fisher_weighted([member.trunk for member in members], [member.fisher for member in members])
    return assembled(trunk, fused_items(members), round_input)


def soup(
    members: Sequence[Member], round_input: RoundInput, score: Callable[[LoadedRelease], float]
) -> tuple[LoadedRelease, tuple[int, ...]]:
    """Average the trunks that make it better for the shops' validation; returns which they are, too."""
    vectors = fused_items(members)
    cooked = greedy_soup(
        [member.trunk for member in members], lambda trunk: score(assembled(trunk, vectors, round_input))
    )
    return assembled(cooked.state, vectors, round_input), cooked.chosen


def composition(
    members: Sequence[Member],
    base: Mapping[str, Tensor],
    round_input: RoundInput,
    score: Callable[[LoadedRelease], float],
    *,
    passes: int = 1,
) -> tuple[LoadedRelease, list[float]]:
    """Add up what the models changed in one base, weighed by what validation says; returns the weights, too."""
    vectors, trunks = fused_items(members), [member.trunk for member in members]
    measured = {name: value for name, value in base.items() if name.startswith(_SCALE)}  # nothing that training changed

    def made(weights: Sequence[float]) -> LoadedRelease:
        return assembled({**composed(base, trunks, weights), **measured}, vectors, round_input)

    weights, _ = composition_weights(len(members), lambda tried: score(made(tried)), passes=passes)
    return made(weights), weights


def averaged_again(
    start: LoadedRelease, inputs: Sequence[RoundInput], folder: Path, *, rounds: int, epochs: int, learning_rate: float
) -> LoadedRelease:
    """Let every shop train the fused model further, and average what comes back; again and again.

    Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
    """
    for number in range(rounds):
        begin = folder / f"again-{number}"
        items = torch.from_numpy(start.item_matrix)
        save_candidate(
            begin, model=start.model, item_matrix=items, item_ids=start.item_ids, parent=None, facts={"fused": number}
        )
        returned = []
        for shop, round_input in enumerate(inputs):
            training = replace(round_input.training, strategy="naive", epochs=epochs, learning_rate=learning_rate)
            out = folder / f"again-{number}-{shop}"
            out.mkdir()
            result = run_round(replace(round_input, incumbent=begin, training=training), out)
            if result.candidate is None:
                raise FusionError(reason="a shop without purchases cannot train")
            returned.append(Member(load_release(result.candidate), {}, torch.from_numpy(round_input.active)))
        start = uniform(returned, inputs[0])
    return start


def distilled(
    start: LoadedRelease,
    members: Sequence[Member],
    inputs: Sequence[RoundInput],
    weights: Sequence[Sequence[float]],
    *,
    epochs: int,
    learning_rate: float,
) -> LoadedRelease:
    """Let one student learn, at each shop in turn, from all models and from what people bought there.

    Teachers come to the shop, the student travels on, and no purchase leaves. Of an item that the shop sells and a
    teacher does not know, the others speak.

    Args:
        start: What the student begins as.
        members: The teachers.
        inputs: Of each shop.
        weights: Of the teachers, at each shop.
        epochs: Passes over each shop's rows.
        learning_rate: At the start; a cosine takes it to 0.
    """
    trainers, batches = [], []
    for round_input in inputs:
        rows, _ = prepare(round_input, np.random.default_rng(round_input.seed))
        trainers.append(
            Trainer(
                start.model.requires_grad_(requires_grad=True),
                text_vectors=torch.from_numpy(round_input.text_vectors),
                active=torch.from_numpy(round_input.active),
                config=round_input.training.of_first_round(),
                strategy=strategy_named("naive"),
                epochs=epochs,
                learning_rate=learning_rate,
                seed=round_input.seed,
                teacher=None,
            )
        )
        batches.append(rows)
    teachers = [Teacher(member.release.model, torch.from_numpy(member.release.item_matrix)) for member in members]
    optimizer = torch.optim.AdamW(start.model.parameters(), lr=learning_rate, weight_decay=0.01)
    size, by = inputs[0].training.first_batch_rows, inputs[0].training.batching
    steps = epochs * sum(-(-len(rows) // size) for rows in batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(inputs[0].seed)
    start.model.train()
    for _ in range(epochs):
        order = [(shop, batch) for shop, rows in enumerate(batches) for batch in rows.batches(size, generator, by=by)]
        for place in torch.randperm(len(order), generator=generator).tolist():
            shop, batch = order[place]
            scored, labels = trainers[shop].likelihood(batches[shop].take(batch))
            spoken = [teacher.moments(scored.rows) @ teacher.items[scored.columns].T for teacher in teachers]
            known = [member.knows[scored.columns] for member in members]
            targets = mixed_targets(spoken, weights[shop], known=known)
            loss = LABELS * labels + (1 - LABELS) * distillation_loss(scored.users @ scored.items.T, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(start.model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    start.model.eval()
    texts = torch.from_numpy(inputs[0].text_vectors)
    with torch.no_grad():
        items = start.model.item_vectors(texts, torch.arange(len(texts)))
        items[0] = 0
    return LoadedRelease(version=0, item_ids=start.item_ids, model=start.model, item_matrix=items, manifest={})
