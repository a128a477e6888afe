"""Reuse: start a new market or task from what the store knows, if a quick trial says that it helps.

The entries whose tasks are most alike are tried for a few epochs beside a start from scratch on the same budget, and
judged on a part of the newest window that nobody trains on. From scratch is always among them, and what was learned
from something else loses its trial.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learners.errors import LearnerError
from learners.knowledge.accumulation import OF_THE_CATALOGUE, target_counts
from learners.knowledge.contents import KeyedVectors, decode_tensors, decode_vectors
from learners.knowledge.entry import Entry
from learners.knowledge.errors import UnfitDonorError
from learners.knowledge.store import KnowledgeStore
from learners.knowledge.task_vectors import task_vector
from learners.model import SharedModel, capacity_for
from learners.releases import save_candidate
from learners.round_input import RoundConfig, RoundInput
from learners.rounds import run_round

_METRIC = "newest_ndcg_10"


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
    """

    donors: int = 3
    epochs: int = 2
    window_share: float = 0.5
    least_gain: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One start and what came of it.

    Args:
        entry_id: The donor; None for a start from scratch.
        similarity: Of the tasks, cosine; None for a start from scratch.
        ndcg_10: On the trial's part of the newest window.
        refused: Why it could not be tried; empty if it was.
    """

    entry_id: str | None
    similarity: float | None
    ndcg_10: float
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to start from.

    Args:
        entry_id: The donor that won its trial; None: from scratch.
        start: Directory to give to the round as its incumbent; None: from scratch.
        trials: Every start that was considered, from scratch first.
    """

    entry_id: str | None
    start: Path | None
    trials: tuple[Trial, ...]


def choose_start(
    store: KnowledgeStore, round_input: RoundInput, folder: Path, *, encoder: str, config: TrialConfig | None = None
) -> Choice:
    """Try the nearest entries and a start from scratch, and prepare the best as a round's incumbent.

    Args:
        store: Where donors are.
        round_input: The new market's first round; its own incumbent is not looked at.
        folder: An existing directory, where the chosen start is left.
        encoder: Of the round's text vectors; donors that learned beside another one are not tried.
        config: How much it may cost.

    Raises:
        LearnerError: If store or Postgres refuse, or a start from scratch cannot be trained.
    """
    config = config or TrialConfig()
    counts = target_counts(round_input)
    vector = task_vector(round_input.text_vectors, counts, counts).tolist()
    trials = [Trial(entry_id=None, similarity=None, ndcg_10=_try(round_input, None, config))]
    scratch, best, start = trials[0].ndcg_10, trials[0].ndcg_10, None
    for match in store.nearest(vector, k=config.donors, kind="adapter", notes={"encoder": encoder}):
        entry_id, directory = match.entry.entry_id, folder / match.entry.entry_id
        try:
            prepare_start(store, match.entry, round_input, directory)
            trial = Trial(entry_id=entry_id, similarity=match.similarity, ndcg_10=_try(round_input, directory, config))
        except LearnerError as error:  # damaged, of another shape, diverged: it is no candidate
            trial = Trial(entry_id=entry_id, similarity=match.similarity, ndcg_10=float("-inf"), refused=str(error))
        trials.append(trial)
        if trial.ndcg_10 > max(best, scratch + _margin(scratch, trial.ndcg_10, round_input, config)):
            best, start = trial.ndcg_10, directory
    return Choice(entry_id=None if start is None else start.name, start=start, trials=tuple(trials))


def first_round(round_input: RoundInput, choice: Choice) -> RoundInput:
    """Return a market's first round from what was chosen: as long, and at the same rate, as from scratch."""
    return replace(round_input, incumbent=choice.start, training=_as_first(round_input.training))


def prepare_start(store: KnowledgeStore, donor: Entry, round_input: RoundInput, target: Path) -> None:
    """Write a model of the new market that knows what the donor knows, as a round's incumbent.

    The trunk is the donor's. Items that both sell stand where they stood; others begin at their text.

    Args:
        store: Where the donor is.
        donor: An entry of kind `adapter`.
        round_input: The new market.
        target: Must not exist yet.

    Raises:
        CorruptKnowledgeError: If the donor's artifact is damaged.
        UnfitDonorError: If it is of another shape than the round's model.
    """
    trunk = decode_tensors(store.verified(donor))
    model = SharedModel(round_input.model, capacity=capacity_for(round_input.model, len(round_input.item_ids)))
    texts = torch.from_numpy(round_input.text_vectors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(round_input.seed)
        model.admit(0, texts)
    load_trunk(model, trunk, entry_id=donor.entry_id)
    shared = _items_of(store, donor)
    with torch.no_grad():
        if shared is not None:
            _take_rows(model, round_input.item_ids, texts, shared)
        items = model.item_vectors(texts, torch.arange(len(round_input.item_ids)))
        items[0] = 0
    facts = {"reused": donor.entry_id}
    save_candidate(target, model=model, item_matrix=items, item_ids=round_input.item_ids, parent=None, facts=facts)


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
        raise UnfitDonorError(entry_id=entry_id, names=differ)
    model.load_state_dict(trunk, strict=False)


def _margin(scratch: float, donor: float, round_input: RoundInput, config: TrialConfig) -> float:
    """Return how far a donor must be above a start from scratch."""
    spread = max(0.0, scratch * (1 - scratch)) + max(0.0, donor * (1 - donor))
    return float(config.least_gain + config.noise * np.sqrt(spread / _judged(round_input, config)))


def _judged(round_input: RoundInput, config: TrialConfig) -> int:
    """Return how many targets judge a trial."""
    return max(1, round(config.window_share * len(round_input.newest_targets)))


def _try(round_input: RoundInput, start: Path | None, config: TrialConfig) -> float:
    """Return NDCG@10 after a short training from a start."""
    judged = _judged(round_input, config)
    training = _as_first(replace(round_input.training, first_epochs=config.epochs, validation_share=0.0))
    trial = replace(
        round_input,
        incumbent=start,
        training=training,
        newest_histories=round_input.newest_histories[:judged],
        newest_targets=round_input.newest_targets[:judged],
        frozen_histories=round_input.frozen_histories[:0],
        frozen_targets=round_input.frozen_targets[:0],
    )
    with tempfile.TemporaryDirectory() as folder:
        return run_round(trial, Path(folder)).metrics.get(_METRIC, 0.0)


def _as_first(training: RoundConfig) -> RoundConfig:
    """Train as a first round does, whatever it starts from: a donor's market is not this one."""
    return replace(training, epochs=training.first_epochs, learning_rate=training.first_learning_rate)


def _items_of(store: KnowledgeStore, donor: Entry) -> KeyedVectors | None:
    """Return the item vectors that the donor's release served, if they were kept."""
    lineage = donor.lineage
    for entry in store.entries(kind="item_embeddings", task=lineage.task):
        if (entry.lineage.model, entry.lineage.model_version) == (lineage.model, lineage.model_version):
            return decode_vectors(store.verified(entry))
    return None


def _take_rows(model: SharedModel, item_ids: Sequence[str], texts: Tensor, shared: KeyedVectors) -> None:
    """Give items that both markets sell the rows that put them where the donor had them."""
    place = {key: index for index, key in enumerate(shared.keys)}
    mine = [index for index, item_id in enumerate(item_ids) if index and item_id in place and index < model.capacity]
    if not mine or shared.vectors.shape[1] != model.config.width:
        return
    theirs = torch.from_numpy(np.ascontiguousarray(shared.vectors[[place[item_ids[index]] for index in mine]]))
    model.id_embedding.weight[mine] = theirs - model.text_projection(texts[mine])
