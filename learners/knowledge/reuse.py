"""Reuse: start a new market or task from what the store knows, if a quick trial says that it helps.

The entries whose tasks are most alike are tried for a few epochs beside a start from scratch on the same budget, and
judged on a part of the newest window that nobody trains on. From scratch is always among them, and what was learned
from something else loses its trial. Whoever wins is then tried by plan: as it is, trained a little, trained as long as
from scratch; few events can wear off more of a donor than they add to it.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.errors import LearnerError
from learners.knowledge.contents import OF_THE_CATALOGUE, KeyedVectors, decode_tensors, decode_vectors
from learners.knowledge.donors import Donor, donor_of, find_donors
from learners.knowledge.entry import Entry
from learners.knowledge.errors import UnfitDonorError
from learners.knowledge.layouts import layout_of
from learners.knowledge.store import KnowledgeStore
from learners.model import SharedModel, capacity_for
from learners.releases.release import LoadedRelease, load_release, save_candidate
from learners.rounds.material import RoundConfig, RoundInput
from learners.rounds.round import judge_releases, run_round
from learners.rounds.training import Beat

_METRIC = "newest_ndcg_10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How far to train from a start.

    Args:
        epochs: 0 leaves it as it is; None: as many as a first round's.
        rate: Learning rate, in shares of a first round's; above 0.
    """

    epochs: int | None = None
    rate: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """How much a choice may cost.

    Args:
        donors: Most entries tried; the most alike first.
        epochs: Of every trial, from scratch or not; at least 1.
        window_share: Part of the newest window that judges trials, its oldest part; the gate has all of it later.
        least_gain: NDCG@10 that a donor must be above a start from scratch ...
        noise: ... and standard errors of that difference beyond it, at most sqrt((a (1 - a) + b (1 - b)) / targets) for
            two means of figures in [0, 1] (Bhatia & Davis). Any weights of a trained size learn a little faster
            than small random ones at first: a few trial targets cannot tell that from knowledge, 1 can.
        plans: Tried with whoever wins, beside training as long as from scratch; none: that is what is done.
    """

    donors: int = 3
    epochs: int = 2
    window_share: float = 0.5
    least_gain: float = 0.0
    noise: float = 0.0
    plans: tuple[Plan, ...] = (Plan(epochs=0), Plan(rate=0.1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One start and what came of it.

    Args:
        entry_id: The donor; None for a start from scratch.
        similarity: Of the tasks, cosine; None for a start from scratch.
        ndcg_10: On the trial's part of the newest window.
        refused: Why it could not be tried; empty if it was.
        epochs: How long it was trained for that.
        learning_rate: And how fast.
    """

    entry_id: str | None
    similarity: float | None
    ndcg_10: float
    refused: str = ""
    epochs: int = 0
    learning_rate: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values; a figure that there is none of is None."""
        ndcg = self.ndcg_10 if np.isfinite(self.ndcg_10) else None
        return {name: getattr(self, name) for name in self.__slots__} | {"ndcg_10": ndcg}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to start from.

    Args:
        entry_id: The donor that won its trial; None: from scratch.
        start: Directory to give to the round as its start; None: from scratch.
        trials: Every start that was considered, from scratch first.
        planned: What was tried with the winner to find out how far to train it.
        epochs: How long to train it; None: as long as from scratch.
        learning_rate: And how fast; None: as from scratch.
        parents: Entries that a model which starts so is made from.
    """

    entry_id: str | None
    start: Path | None
    trials: tuple[Trial, ...]
    planned: tuple[Trial, ...] = ()
    epochs: int | None = None
    learning_rate: float | None = None
    parents: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values, the directory left out."""
        return {
            "entry_id": self.entry_id,
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "parents": list(self.parents),
            "trials": [trial.as_dict() for trial in self.trials],
            "planned": [trial.as_dict() for trial in self.planned],
        }


def choose_start(
    store: KnowledgeStore, round_input: RoundInput, folder: Path, *, encoder: str, config: TrialConfig | None = None
) -> Choice:
    """Find the nearest entries and choose among them; see `choose`.

    Args:
        store: Where donors are.
        round_input: The new market's first round.
        folder: An existing directory, where the chosen start is left.
        encoder: Of the round's text vectors; donors that learned beside another one are not tried.
        config: How much it may cost.

    Raises:
        LearnerError: If store or Postgres refuse, or a start from scratch cannot be trained.
    """
    config = config or TrialConfig()
    return choose(find_donors(store, round_input, encoder=encoder, most=config.donors), round_input, folder, config)


def choose(
    donors: Sequence[Donor],
    round_input: RoundInput,
    folder: Path,
    config: TrialConfig | None = None,
    *,
    beat: Beat = lambda _step, _steps: None,
) -> Choice:
    """Try donors and a start from scratch, and prepare the best as a round's start. The same input chooses the same.

    Args:
        donors: Most alike first.
        round_input: The new market's first round.
        folder: An existing directory, where the chosen start is left.
        config: How much it may cost.
        beat: Called after every optimizer step.

    Raises:
        LearnerError: If a start from scratch cannot be trained.
    """
    trying = _Trying(round_input, config or TrialConfig(), beat)
    trials = [trying.trial(None, None, trying.short)]
    scratch, best, winner = trials[0].ndcg_10, trials[0].ndcg_10, None
    for donor in donors:
        directory = folder / donor.entry.entry_id
        trial = trying.donor(donor, directory)
        trials.append(trial)
        if trial.ndcg_10 > max(best, scratch + trying.margin(scratch, trial.ndcg_10)):
            best, winner = trial.ndcg_10, donor
    if winner is None:
        return Choice(entry_id=None, start=None, trials=tuple(trials))
    return _planned(trying, winner, folder / winner.entry.entry_id, trials, best)


def _planned(trying: "_Trying", winner: Donor, start: Path, trials: Sequence[Trial], shortly: float) -> Choice:
    """Find out how far to train the winner; where training from scratch as long is better after all, that is chosen."""
    entry_id = winner.entry.entry_id
    if not trying.config.plans:
        return Choice(entry_id=entry_id, start=start, trials=tuple(trials), parents=winner.parents)
    scratch = trying.trial(None, None, Plan())
    known = trying.described(winner, trying.short, shortly)
    planned = [trying.trial(winner, start, plan) for plan in (*trying.config.plans, Plan())]
    planned = sorted([known, *planned], key=lambda trial: trial.epochs * trial.learning_rate)
    best = max(planned, key=lambda trial: trial.ndcg_10)  # of equals the first, which moves the donor least
    found = tuple(trials), (scratch, *planned)
    if scratch.ndcg_10 > best.ndcg_10:
        return Choice(entry_id=None, start=None, trials=found[0], planned=found[1])
    return Choice(
        entry_id=entry_id,
        start=start,
        trials=found[0],
        planned=found[1],
        epochs=best.epochs,
        learning_rate=best.learning_rate,
        parents=winner.parents,
    )


def first_round(round_input: RoundInput, choice: Choice) -> RoundInput:
    """Return a market's first round from what was chosen."""
    training = round_input.training
    if choice.start is not None:
        training = replace(
            training,
            first_epochs=training.first_epochs if choice.epochs is None else choice.epochs,
            first_learning_rate=choice.learning_rate or training.first_learning_rate,
        )
    return replace(round_input, incumbent=None, start=choice.start, donors=None, training=training)


def prepare_start(store: KnowledgeStore, donor: Entry, round_input: RoundInput, target: Path) -> None:
    """Write a model of the new market that knows what an entry knows, as a round's start; see `prepare`.

    Raises:
        CorruptKnowledgeError: If the donor's artifact is damaged.
        UnfitDonorError: If it is of another shape than the round's model.
    """
    store.verified(donor)
    prepare(donor_of(store, donor, 0.0), round_input, target)


def prepare(donor: Donor, round_input: RoundInput, target: Path) -> None:
    """Write a model of the new market that knows what the donor knows, as a round's start.

    The trunk is the donor's. Items that both sell stand where they stood; others begin at their text.

    Args:
        donor: Not refused.
        round_input: The new market.
        target: Must not exist yet.

    Raises:
        UnfitDonorError: If it is of another shape than the round's model.
    """
    release = seated(
        decode_tensors(donor.trunk),
        decode_vectors(donor.item_vectors) if donor.item_vectors else None,
        round_input,
        entry_id=donor.entry.entry_id,
    )
    save_candidate(
        target,
        model=release.model,
        item_matrix=torch.from_numpy(release.item_matrix),
        item_ids=release.item_ids,
        parent=None,
        facts={"reused": donor.entry.entry_id},
    )


def seated(
    trunk: dict[str, Tensor], known: KeyedVectors | None, round_input: RoundInput, *, entry_id: str
) -> LoadedRelease:
    """Return a model of a round's market with this trunk and, of the items that it sells, these vectors.

    Raises:
        UnfitDonorError: If the trunk is of another shape than the round's model.
    """
    model = SharedModel(round_input.model, capacity=capacity_for(round_input.model, len(round_input.item_ids)))
    texts = torch.from_numpy(round_input.text_vectors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(round_input.seed)
        model.admit(0, texts)
    load_trunk(model, trunk, entry_id=entry_id)
    with torch.no_grad():
        if known is not None:
            _take_rows(model, round_input.item_ids, texts, known)
        items = model.item_vectors(texts, torch.arange(len(round_input.item_ids)))
        items[0] = 0
    return LoadedRelease(version=0, item_ids=round_input.item_ids, model=model, item_matrix=items, manifest={})


def load_trunk(model: SharedModel, trunk: dict[str, Tensor], *, entry_id: str) -> None:
    """Give a model the donor's parameters, all but its item rows.

    Raises:
        UnfitDonorError: If names or shapes differ.
    """
    own = model.state_dict()
    differ = [
        name
        for name in sorted(own.keys() | trunk.keys())
        if name != OF_THE_CATALOGUE and (name not in own or name not in trunk or own[name].shape != trunk[name].shape)
    ]
    if differ:
        layouts = layout_of(trunk), model.config.layout
        raise UnfitDonorError(entry_id=entry_id, names=differ, layouts=None if layouts[0] == layouts[1] else layouts)
    model.load_state_dict(trunk, strict=False)


class _Trying:
    """Trials on one market's first round: each trains on its rows and is judged on a part of its newest window."""

    def __init__(self, round_input: RoundInput, config: TrialConfig, beat: Beat) -> None:
        self.config, self._beat = config, beat
        self.judged = max(1, round(config.window_share * len(round_input.newest_targets)))
        self.short = Plan(epochs=config.epochs)
        self.round_input = replace(
            round_input,
            incumbent=None,
            start=None,
            donors=None,
            newest_histories=round_input.newest_histories[: self.judged],
            newest_targets=round_input.newest_targets[: self.judged],
            frozen_histories=round_input.frozen_histories[:0],
            frozen_targets=round_input.frozen_targets[:0],
        )

    def donor(self, donor: Donor, directory: Path) -> Trial:
        """Return what a short training from a donor reaches, or why it cannot be tried."""
        refused = donor.refused
        if not refused:
            try:
                prepare(donor, self.round_input, directory)
                return self.trial(donor, directory, self.short)
            except LearnerError as error:  # of another shape, diverged: it is no candidate
                refused = str(error)
        return replace(self.described(donor, self.short, float("-inf")), refused=refused)

    def trial(self, donor: Donor | None, start: Path | None, plan: Plan) -> Trial:
        """Return NDCG@10 after a training by plan."""
        training = self._training(plan)
        if start is not None and not training.first_epochs:
            verdict = judge_releases(load_release(start), None, self.round_input)
            return self.described(donor, plan, verdict.evidence["candidate"].get("newest", {}).get("ndcg_10", 0.0))
        with tempfile.TemporaryDirectory() as folder:
            tried = replace(self.round_input, start=start, training=training)
            metrics = run_round(tried, Path(folder), beat=self._beat).metrics
        return self.described(donor, plan, metrics.get(_METRIC, 0.0))

    def described(self, donor: Donor | None, plan: Plan, ndcg_10: float) -> Trial:
        """Return a trial's row."""
        return Trial(
            entry_id=None if donor is None else donor.entry.entry_id,
            similarity=None if donor is None else donor.similarity,
            ndcg_10=ndcg_10,
            epochs=self._training(plan).first_epochs,
            learning_rate=self._training(plan).first_learning_rate,
        )

    def margin(self, scratch: float, donor: float) -> float:
        """Return how far a donor must be above a start from scratch."""
        spread = max(0.0, scratch * (1 - scratch)) + max(0.0, donor * (1 - donor))
        return float(self.config.least_gain + self.config.noise * np.sqrt(spread / self.judged))

    def _training(self, plan: Plan) -> RoundConfig:
        training = self.round_input.training
        return replace(
            training,
            first_epochs=training.first_epochs if plan.epochs is None else plan.epochs,
            first_learning_rate=plan.rate * training.first_learning_rate,
            validation_share=0.0,
            logger="none",
        )


def _take_rows(model: SharedModel, item_ids: Sequence[str], texts: Tensor, shared: KeyedVectors) -> None:
    """Give items that both markets sell the rows that put them where the donor had them."""
    place = {key: index for index, key in enumerate(shared.keys)}
    mine = [index for index, item_id in enumerate(item_ids) if index and item_id in place and index < model.capacity]
    if not mine or shared.vectors.shape[1] != model.config.width:
        return
    theirs = torch.from_numpy(np.ascontiguousarray(shared.vectors[[place[item_ids[index]] for index in mine]]))
    model.id_embedding.weight[mine] = theirs - model.described(texts[mine])
