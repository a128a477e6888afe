"""A task's knowledge outlives its model: adapter and head go into the store, and new tasks may start from them.

An adapter fits every task beside the same encoder with additions of the same rank, a head only one of the same shape.
Whether either helps is found out by a trial, in which starting from scratch always takes part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.errors import DivergedError, LearnerError
from learners.knowledge.contents import decode_tensors, encode_tensors
from learners.knowledge.entry import Entry, Kind, Lineage
from learners.knowledge.store import KnowledgeStore
from learners.knowledge.task_vectors import task_vector
from learners.tasks import judging
from learners.tasks.examples import Example
from learners.tasks.learner import LEAST_EXAMPLES, Given, Offsets, RoundOutcome, TaskLearner
from learners.tasks.model import TaskModel
from learners.tasks.training import class_weights, train

SCRATCH = "from scratch"
_DESCRIBED = 256  # examples whose texts describe a task
_BINS = 10  # of labels that are numbers
TRIAL_EPOCHS, TRIAL_SHARE = 2, 0.25
_ADAPTER = "adapter."


@dataclass(frozen=True, slots=True)
class Start:
    """Something that a task can start from.

    Args:
        name: For people; of entries, the beginning of the adapter's id and its task.
        tensors: By name; those that the model does not have, or has in another shape, are left out.
        parents: Ids of the entries that they came from.
    """

    name: str
    tensors: Mapping[str, Tensor]
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried: how well each start did on examples that none of them learned, and which was chosen."""

    gains: Mapping[str, float]
    chosen: Start


def vector_of(learner: TaskLearner, examples: Sequence[Example]) -> list[float]:
    """Return the task's vector: the mean of what the untouched encoder says of its texts, and label statistics."""
    texts = [text for example in examples[:_DESCRIBED] for text in example.texts]
    vectors = learner.model.described(texts)
    found: list[float] = task_vector(
        vectors, np.ones(len(vectors), dtype=np.int64), label_counts(learner, examples)
    ).tolist()
    return found


def label_counts(learner: TaskLearner, examples: Sequence[Example]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how often each class came, or how the numbers spread over ten bins."""
    labels = judging.labels_of(examples)
    if learner.task.kind == "classify":
        return np.bincount(labels.astype(int), minlength=len(learner.task.classes))
    return np.histogram(labels, bins=_BINS)[0]


def deposit(
    store: KnowledgeStore,
    learner: TaskLearner,
    outcome: RoundOutcome,
    *,
    offsets: Mapping[str, int] | None = None,
    parents: Sequence[str] = (),
) -> tuple[Entry, ...]:
    """Keep what a released round learned; the same round again adds nothing.

    Args:
        store: Where to.
        learner: Whose model serves.
        outcome: Of its last round; released.
        offsets: Source partition -> next offset not yet learned.
        parents: Ids of entries that the model started from, beside those of its own previous version.

    Raises:
        LearnerError: If store or Postgres refuse; what was deposited before that stays.
    """
    described = learner.memory.examples() or learner.exam.examples()  # people may have been forgotten
    embedding = vector_of(learner, described)
    learned = learner.model.learned()
    parts: dict[Kind, dict[str, Tensor]] = {
        "adapter": {name: value for name, value in learned.items() if name.startswith(_ADAPTER)},
        "head": {name: value for name, value in learned.items() if not name.startswith(_ADAPTER)},
    }
    own = [
        entry
        for entry in store.entries(task=learner.task.key)
        if entry.lineage.model_version == learner.version - 1 and entry.lineage.model == learner.task.name
    ]
    kept = []
    for kind, tensors in parts.items():
        if not tensors:
            continue
        lineage = Lineage(
            task=learner.task.key,
            model=learner.task.name,
            model_version=learner.version,
            offsets=dict(offsets or {}),
            parents=(*parents, *(entry.entry_id for entry in own if entry.kind == kind)),
            notes=notes_of(learner) | {"task": json.dumps(learner.task.as_dict(), sort_keys=True)},
        )
        worth = {name: float(value) for name, value in outcome.metrics.items()}
        content = encode_tensors(tensors)
        kept.append(
            store.deposit(content, kind=kind, lineage=lineage, privacy="shop", worth=worth, embedding=embedding)
        )
    return tuple(kept)


def notes_of(learner: TaskLearner) -> dict[str, str]:
    """Return what another task must agree in to use the adapter: the encoder, and what was added to it."""
    training = learner.task.training
    additions = f"lora:{training.rank}:{training.alpha:g}" if training.encoder == "lora" else training.encoder
    return {"encoder": learner.model.encoder.fingerprint, "additions": additions}


def starts_from(
    store: KnowledgeStore,
    learner: TaskLearner,
    examples: Sequence[Example],
    *,
    k: int = 2,
    offsets: Offsets | None = None,
) -> list[Start]:
    """Return the nearest tasks' adapters and heads as starts, the most alike first; what is damaged is left out.

    Args:
        store: Where from.
        learner: Of the new task.
        examples: That describe it.
        k: Most starts.
        offsets: Of the round, by the name of each task that learns in it; what is `undone` by them is left out.
    """
    embedding = vector_of(learner, examples)
    kind: Kind = "head" if learner.task.training.encoder == "frozen" else "adapter"
    found: list[Start] = []
    seen: set[str] = set()
    for match in store.nearest(embedding, k=8 * k, kind=kind, notes=notes_of(learner)):
        lineage = match.entry.lineage
        if lineage.task in seen or undone(lineage, offsets or {}):
            continue
        entries = [
            entry
            for entry in store.entries(task=lineage.task)
            if (entry.lineage.model, entry.lineage.model_version) == (lineage.model, lineage.model_version)
            and entry.kind in {"adapter", "head"}
        ]
        try:
            parts = [decode_tensors(store.verified(entry)) for entry in entries]
        except LearnerError:
            continue  # a damaged donor loses; the trial goes on without it
        seen.add(lineage.task)
        name = f"{match.entry.entry_id[:12]} {lineage.task}"
        tensors = {key: value for part in parts for key, value in part.items()}
        found.append(Start(name, tensors, tuple(entry.entry_id for entry in entries)))
        if len(found) == k:
            break
    return found


def undone(lineage: Lineage, offsets: Offsets) -> bool:
    """Whether one of these tasks left it in this round or a later one, before a kill undid them.

    Such a start has learned the examples that are to judge it, and the round that is repeated did not have it.

    Args:
        lineage: Of an entry.
        offsets: Of the round: task's name -> source partition -> next offset not yet learned.

    >>> left = Lineage(task="classify/topic", model="topic", offsets={"0": 40})
    >>> [undone(left, {"topic": own}) for own in ({}, {"0": 30}, {"0": 40}, {"0": 50})]
    [True, True, True, False]
    >>> undone(left, {"size": {"0": 30}})
    False
    """
    own = offsets.get(lineage.model)
    if own is None:
        return False
    return any(offset >= own.get(partition, 0) for partition, offset in lineage.offsets.items())


def applied(model: TaskModel, start: Start) -> TaskModel:
    """Put a start's numbers into a model where names and shapes agree; returns the model.

    What labels and numbers are measured in stays the model's own, unless the start is of the same task.
    """
    current = dict(model.trained())
    with torch.no_grad():
        for name, value in start.tensors.items():
            if name in current and current[name].shape == value.shape:
                current[name].copy_(value)
    return model


def choose_start(learner: TaskLearner, examples: Sequence[Example], starts: Sequence[Start]) -> Trial:
    """Train each start briefly, and from scratch, too; the best on the newest quarter, which none learned, is chosen.

    Args:
        learner: Before its first round.
        examples: Of the first round, oldest first, without what will judge it.
        starts: Beside from scratch.
    """
    cut = len(examples) - max(round(TRIAL_SHARE * len(examples)), 1)
    learn, judged = examples[:cut], examples[cut:]
    weights = class_weights(learn, len(learner.task.classes)).numpy()
    gains, every = {}, [Start(SCRATCH, {}), *starts]
    for start in every:
        model = applied(learner.candidate(learn), start)
        try:
            train(model, learn, rng=np.random.default_rng(learner.seed), epochs=TRIAL_EPOCHS)
        except DivergedError:
            gains[start.name] = -np.inf
            continue
        spread = float(model.label_spread)
        found = judging.gains(learner.task, model.scores(judged), judged, spread=spread, weights=weights)
        gains[start.name] = float(np.mean(found))
    best = max(every, key=lambda start: gains[start.name])
    return Trial(gains, best)


def first_round(
    learner: TaskLearner,
    examples: Given,
    store: KnowledgeStore,
    *,
    k: int = 2,
    offsets: Mapping[str, int] | None = None,
) -> tuple[RoundOutcome, Trial]:
    """Run a learner's first round from whatever the trial on these examples chooses.

    A round that is refused leaves the learner as it was, so that the next trial's start from scratch is one.

    Args:
        learner: Before its first released round.
        examples: Of the round, oldest first.
        store: Where knowledge is.
        k: Most starts.
        offsets: As of `deposit`, after this round; the task's own entries that reach as far are no starts.
    """
    checked = [each for each in map(learner.task.validate, examples) if isinstance(each, Example)]
    kept = checked[: len(checked) - max(round(learner.task.training.hold_out * len(checked)), 1)]
    if len(kept) < LEAST_EXAMPLES:
        return learner.learn(examples), Trial({}, Start(SCRATCH, {}))
    try:
        starts = starts_from(store, learner, kept, k=k, offsets={} if offsets is None else {learner.task.name: offsets})
    except LearnerError:
        starts = []  # a store that does not answer stops nobody from learning
    trial = choose_start(learner, kept, starts)
    model = learner.model
    before = model.learned()
    applied(model, trial.chosen)
    outcome = learner.learn(examples)
    if not outcome.released:
        model.restore(before)
    return outcome, trial
