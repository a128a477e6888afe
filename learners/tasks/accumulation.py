"""Rounds of tasks beside the knowledge store: the first starts from what it finds, each leaves what it learned."""

from collections.abc import Mapping
from dataclasses import dataclass

from learners.knowledge.store import KnowledgeStore
from learners.tasks.joint import JointLearner
from learners.tasks.joint_knowledge import deposit_jointly, first_joint_round
from learners.tasks.knowledge import SCRATCH, Start, deposit, first_round
from learners.tasks.learner import Given, Offsets, RoundOutcome, TaskLearner

Learner = TaskLearner | JointLearner


@dataclass(frozen=True, slots=True)
class Learned:
    """What a round came to.

    Args:
        outcomes: By the task's name.
        start: What the first round started from; None: the round went on from a release.
    """

    outcomes: Mapping[str, RoundOutcome]
    start: Start | None


def learn(
    learner: Learner, examples: Mapping[str, Given], *, store: KnowledgeStore | None, offsets: Offsets | None = None
) -> Learned:
    """Run a round, the first from whatever a trial of the nearest knowledge chooses; a store that fails stops none.

    Args:
        learner: Of a task, or of several.
        examples: Of the round, by the task's name; of that task only, if it learns alone.
        store: Where knowledge is; None: there is none.
        offsets: By the task's name: source partition -> next offset not yet learned, after this round.
    """
    scratch = None if learner.version else Start(SCRATCH, {})
    if isinstance(learner, JointLearner):
        if store is None or scratch is None:
            return Learned(learner.learn(examples), scratch)
        outcomes, trial = first_joint_round(learner, examples, store, offsets=offsets)
        return Learned(outcomes, trial.chosen)
    ((name, given),) = examples.items()
    if store is None or scratch is None:
        return Learned({name: learner.learn(given)}, scratch)
    outcome, trial = first_round(learner, given, store, offsets=(offsets or {}).get(name))
    return Learned({name: outcome}, trial.chosen)


def keep(
    learner: Learner, learned: Learned, *, store: KnowledgeStore, offsets: Offsets | None = None
) -> dict[str, int]:
    """Leave in the store what a round learned; return how many entries each task left.

    Args:
        learner: Whose models serve.
        learned: Its last round.
        store: Where to.
        offsets: As of `learn`.

    Raises:
        LearnerError: If store or Postgres refuse; what was deposited before that stays.
    """
    parents = learned.start.parents if learned.start is not None else ()
    if isinstance(learner, JointLearner):
        return deposit_jointly(store, learner, learned.outcomes, offsets=offsets, parents=parents)
    ((name, outcome),) = learned.outcomes.items()
    if not outcome.released:
        return {name: 0}
    return {name: len(deposit(store, learner, outcome, offsets=(offsets or {}).get(name), parents=parents))}
