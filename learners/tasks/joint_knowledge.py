"""Knowledge of tasks that learn jointly: what each leaves, and a first joint round that starts from what one finds.

A start is found by one of the tasks, as if it learned alone. The adapter goes to all, and of a shared trunk pooling and
hidden layers, too; the donor's last layers go only to the task that found it. Whether that helps is found out by a
trial, in which starting from scratch always takes part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.errors import LearnerError
from learners.knowledge.store import KnowledgeStore
from learners.tasks import judging
from learners.tasks.errors import TaskDivergedError
from learners.tasks.examples import Example
from learners.tasks.joint import ByTask, JointLearner
from learners.tasks.joint_training import train_jointly
from learners.tasks.knowledge import (
    SCRATCH,
    TRIAL_EPOCHS,
    TRIAL_SHARE,
    Start,
    Trial,
    applied,
    deposit,
    starts_from,
)
from learners.tasks.learner import LEAST_EXAMPLES, Material, Offsets, RoundOutcome, Rows
from learners.tasks.training import class_weights

Floats = npt.NDArray[np.floating[Any]]
_FORGIVEN = 1.0  # standard errors of the paired difference that a task may be worse by


def deposit_jointly(
    store: KnowledgeStore,
    learner: JointLearner,
    outcomes: Mapping[str, RoundOutcome],
    *,
    offsets: Offsets | None = None,
    parents: Sequence[str] = (),
) -> dict[str, int]:
    """Keep what each task of a joint round learned, adapter and head under its own name; how many entries each left.

    Args:
        store: Where to.
        learner: Whose models serve.
        outcomes: Of its last round, by task; nothing is kept of one that was not released, or that knows nothing yet.
        offsets: By task: source partition -> next offset not yet learned.
        parents: Ids of entries that the round started from.

    Raises:
        LearnerError: As `deposit`.
    """
    known = offsets or {}
    return {
        name: len(deposit(store, learner.learners[name], outcome, offsets=known.get(name), parents=parents))
        if outcome.released and outcome.version
        else 0
        for name, outcome in outcomes.items()
    }


def first_joint_round(
    learner: JointLearner,
    examples: ByTask | Rows,
    store: KnowledgeStore,
    *,
    k: int = 1,
    offsets: Offsets | None = None,
) -> tuple[dict[str, RoundOutcome], Trial]:
    """Run the first round of tasks that learn jointly from whatever the trial on its examples chooses.

    A round that is refused leaves all as they were, so that the next trial's start from scratch is one.

    Args:
        learner: Before its first released round.
        examples: As `JointLearner.learn` takes them.
        store: Where knowledge is.
        k: Most starts that each task looks for.
        offsets: As of `deposit_jointly`, after this round; entries of these tasks that reach as far are no starts.
    """
    given = learner.by_task(examples, labelled=True)
    kept = {name: learner.learners[name].material(rows).new for name, rows in given.items()}
    kept = {name: rows for name, rows in kept.items() if len(rows) >= LEAST_EXAMPLES}
    starts: list[tuple[str, Start]] = []
    for name, rows in kept.items():
        try:
            found = starts_from(store, learner.learners[name], rows, k=k, offsets=offsets)
            starts += [(name, start) for start in found]
        except LearnerError:
            break  # a store that does not answer stops nobody from learning
    finder, trial = choose_joint_start(learner, kept, starts)
    if not finder:
        return learner.learn(given), trial
    model = learner.learners[finder].model
    before = model.learned()
    applied(model, trial.chosen)
    outcomes = learner.learn(given)
    if not learner.version:
        model.restore(before)  # what it shares with the others is theirs, too
    return outcomes, trial


def choose_joint_start(
    learner: JointLearner, examples: Mapping[str, Sequence[Example]], starts: Sequence[tuple[str, Start]]
) -> tuple[str, Trial]:
    """Train each start briefly, and from scratch, too, and judge all on the newest quarters, which none learned.

    Args:
        learner: Before its first released round; not changed.
        examples: Of the first round by task, oldest first, without what will judge it.
        starts: What the tasks found, each with the name of the task that did.

    Returns:
        Who found the chosen start, nobody for from scratch; and what was found out: the mean over tasks of how well
        each start answered, as the gate sees it; minus infinity where it diverged or `harms` a task.
    """
    chosen = "", Start(SCRATCH, {})
    scratch = _tried(learner, examples, *chosen) if starts else None
    if scratch is None:
        return "", Trial({}, chosen[1])
    gains = {SCRATCH: _mean(scratch)}
    for finder, start in starts:
        name = f"{start.name} for {finder}"
        found = _tried(learner, examples, finder, start)
        gains[name] = -np.inf if found is None or harms(found, scratch) else _mean(found)
        if gains[name] > gains[chosen[1].name]:
            chosen = finder, Start(name, start.tensors, start.parents)
    return chosen[0], Trial(gains, chosen[1])


def harms(found: Mapping[str, Floats], scratch: Mapping[str, Floats]) -> bool:
    """Whether some task is worse off than from scratch, by more than a standard error of the paired difference.

    Args:
        found: How well each held-out example was answered, by task.
        scratch: The same from scratch.

    >>> scratch = {"a": np.array([0.1, 0.5, 0.9]), "b": np.array([0.1, 0.5, 0.9])}
    >>> harms({"a": np.array([0.9, 0.9, 0.9]), "b": np.array([0.0, 0.6, 0.9])}, scratch)
    False
    >>> harms({"a": np.array([0.9, 0.9, 0.9]), "b": np.array([0.0, 0.4, 0.9])}, scratch)
    True
    """
    for name, gained in found.items():
        difference = gained - scratch[name]
        forgiven = _FORGIVEN * float(difference.std()) / np.sqrt(len(difference))
        if not float(difference.mean()) >= -forgiven:  # also where an answer is not finite
            return True
    return False


def _mean(gained: Mapping[str, Floats]) -> float:
    return float(np.mean([each.mean() for each in gained.values()]))


def _tried(
    learner: JointLearner, examples: Mapping[str, Sequence[Example]], finder: str, start: Start
) -> dict[str, Floats] | None:
    """Return how well a start answers each task's newest quarter after a short training; None where that diverged."""
    nothing = Material(new=(), held=(), rejected=(), usable=0)
    materials = dict.fromkeys(learner.learners, nothing)
    for name, rows in examples.items():
        cut = len(rows) - max(round(TRIAL_SHARE * len(rows)), 1)
        materials[name] = Material(new=rows[:cut], held=rows[cut:], rejected=(), usable=len(rows))
    models = learner.candidates(materials, dict.fromkeys(learner.learners, ()))
    if finder:
        applied(models[finder], start)
    rng = np.random.default_rng(learner.seed)
    try:
        train_jointly(
            list(models.values()),
            [materials[name].new for name in models],
            rng=rng,
            temperature=learner.temperature,
            epochs=TRIAL_EPOCHS,
        )
    except TaskDivergedError:
        return None
    gained = {}
    for name in examples:
        model, material = models[name], materials[name]
        weights = class_weights(material.new, len(model.task.classes)).numpy()
        spread = float(model.label_spread)
        predicted = model.scores(material.held)
        gained[name] = judging.gains(model.task, predicted, material.held, spread=spread, weights=weights)
    return gained
