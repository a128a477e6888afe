"""What a task worker knows: the learner, the examples that wait for a round, and sums of how good it was.

Everything here belongs to one thread. The same records in the same order give the same rounds, so a worker that resumes
at a checkpoint says again what it had said.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learners.tasks import accumulation
from learners.tasks.accumulation import Learner
from learners.tasks.joint import JointLearner
from learners.tasks.learner import LEAST_EXAMPLES, Given, Offsets, RoundOutcome, TaskLearner
from learners.tasks.sharing import ENCODER
from learners.tasks.task import Task
from streams.batches import RecordBatch
from streams.dead_letters import letters
from streams.erasures import Erasures
from streams.learning.knowledge import read_erasures
from streams.publisher import Outgoing
from streams.tasks.decoding import Arrived, Erased, arrivals
from streams.tasks.desk import Desk
from streams.tasks.errors import TaskChangedError
from streams.validation import RejectedEvent

Outcomes = Mapping[str, RoundOutcome]  # by the task's name
Learn = Callable[[Learner, Mapping[str, Given], Offsets], Outcomes]
_TASK, _STATE = "task", "study.json"


@dataclass(frozen=True, slots=True)
class Found:
    """What a run of records led to: records for Kafka, and rounds in their order."""

    records: list[Outgoing] = field(default_factory=list)
    rounds: list[Outcomes] = field(default_factory=list)


def beginner(tasks: Sequence[Task], *, share: str, seed: int) -> Learner:
    """Return a learner that knows nothing: of one task, or of several that learn jointly."""
    return TaskLearner(tasks[0], seed=seed) if len(tasks) == 1 else JointLearner(tasks, seed=seed, share=share)


def learn_round(learner: Learner, examples: Mapping[str, Given], offsets: Offsets) -> Outcomes:
    """Run a round over each task's examples, with no knowledge store; a task that is left out has none."""
    return accumulation.learn(learner, examples, store=None, offsets=offsets).outcomes


class TaskStudy:
    """Answer every example, then learn from those with a label, a round whenever enough have come.

    A round is due as soon as the tasks of which enough wait for a round of their own (4) have `round_examples` waiting
    together; what waits of the others waits on, so that nothing is lost to a round that cannot use it.

    Args:
        learner: Of the task, or of several.
        round_examples: Labelled examples that make a round; at least 4.
        learn: Runs a round, and is told up to where each task's examples were handed over, those of this round
            included; None: the learner does.
        erasures: Who is forgotten already; None: nobody.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        round_examples: int,
        learn: Learn | None = None,
        erasures: Erasures | None = None,
    ) -> None:
        self.learner, self._round_examples = learner, round_examples
        self._erasures = Erasures() if erasures is None else erasures
        self._learn = learn or learn_round
        learners = learner.learners.values() if isinstance(learner, JointLearner) else [learner]
        self.desks = {each.task.name: Desk(each) for each in learners}
        self._tasks = {name: desk.task for name, desk in self.desks.items()}
        self.counts: Counter[str] = Counter()

    def take(self, batch: RecordBatch) -> Found:
        """Answer and learn from a run of records of `tasks.examples`."""
        found = Found()
        rejected: list[RejectedEvent] = []
        asked: list[Arrived] = []
        waiting = self._waiting()
        self.counts["truncated"] += batch.truncated
        for arrived in arrivals(batch, self._tasks, self._erasures):
            if arrived is None:
                self.counts["of other tasks"] += 1
            elif isinstance(arrived, Erased):
                self.counts["erased"] += 1
            elif isinstance(arrived, RejectedEvent):
                rejected.append(arrived)
            else:
                asked.append(arrived)
                waiting[arrived.task] += arrived.labelled
                if sum(count for count in waiting.values() if count >= LEAST_EXAMPLES) >= self._round_examples:
                    found.records.extend(self._answer(asked))
                    asked = []
                    self._round(found)
                    waiting = self._waiting()
        found.records.extend(self._answer(asked))
        self.counts["rejected"] += len(rejected)
        found.records.extend(Outgoing(*letter) for letter in letters(rejected))
        return found

    def take_erasures(self, batch: RecordBatch) -> None:
        """Forget whoever asks, in a run of records of `users.erasures`: what waits of them, and what is replayed."""
        requests, unreadable = read_erasures(batch)
        new = [request for request in requests if self._erasures.request(*request)]
        for user_id, requested_at_ms in new:
            self.counts["forgotten"] += self.learner.forget(user_id, until_ms=requested_at_ms)
            self.counts["forgotten"] += sum(desk.forget(user_id, requested_at_ms) for desk in self.desks.values())
        self.counts.update({"erasures": len(new), "erasures_rejected": unreadable})

    def leave_log(self) -> None:
        """Forget offsets, because Kafka is another one than before."""
        for desk in self.desks.values():
            desk.leave_log()

    def describe(self) -> dict[str, Any]:
        """What `/progress` says of tasks: of one, or of each."""
        desks = {
            desk.task.key: {"version": desk.learner.version, "waiting": len(desk.waiting)}
            for desk in self.desks.values()
        }
        if isinstance(self.learner, JointLearner):
            return {"tasks": desks, "share": self.learner.share, "version": self.learner.version}
        return {"task": self.learner.task.key, **desks[self.learner.task.key]}

    def save(self, folder: Path) -> None:
        """Write everything into a folder that is made here."""
        folder.mkdir()
        self.learner.save(folder / _TASK)
        state = {
            "counts": dict(self.counts),
            "tasks": {name: desk.get_state() for name, desk in self.desks.items()},
        }
        (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(
        cls,
        folder: Path,
        tasks: Sequence[Task],
        *,
        share: str = ENCODER,
        round_examples: int,
        learn: Learn | None = None,
        erasures: Erasures | None = None,
    ) -> "TaskStudy":
        """Read what `save` wrote; the rest is as for a study that begins.

        Raises:
            TaskChangedError: If it was another declaration, or the tasks shared something else.
            CorruptTaskError: If it cannot be read.
        """
        learner = TaskLearner.load(folder / _TASK) if len(tasks) == 1 else JointLearner.load(folder / _TASK)
        if isinstance(learner, JointLearner):
            if (learner.tasks, learner.share) != (tuple(tasks), share):
                raise TaskChangedError(path=folder, names=[task.name for task in learner.tasks], share=learner.share)
        elif learner.task != tasks[0]:
            raise TaskChangedError(path=folder, names=[learner.task.name])
        study = cls(learner, round_examples=round_examples, learn=learn, erasures=erasures)
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        study.counts.update(state["counts"])
        for name, desk in study.desks.items():
            desk.set_state(state["tasks"][name] if "tasks" in state else state)
        return study

    def _waiting(self) -> Counter[str]:
        return Counter({name: len(desk.waiting) for name, desk in self.desks.items()})

    def _answer(self, asked: Sequence[Arrived]) -> list[Outgoing]:
        """Predict before learning, each at its task's desk."""
        records = [
            record
            for name, desk in self.desks.items()
            for record in desk.answer([each for each in asked if each.task == name])
        ]
        self.counts["predicted"] += len(asked)
        self.counts["labelled"] += sum(each.labelled for each in asked)
        return records

    def _round(self, found: Found) -> None:
        examples: dict[str, Given] = {}
        for name, desk in self.desks.items():
            if len(desk.waiting) >= LEAST_EXAMPLES:
                examples[name], record = desk.hand_over(interactions=self.counts["labelled"])
                found.records.append(record)
        offsets = {name: desk.offsets for name, desk in self.desks.items()}
        outcomes = self._learn(self.learner, examples, offsets)
        self.counts["rounds"] += 1
        self.counts["released"] += all(outcome.released for outcome in outcomes.values())
        found.rounds.append(outcomes)
