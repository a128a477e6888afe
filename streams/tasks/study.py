"""What a task's worker knows: the learner, the examples that wait for a round, and sums of how good it was.

Everything here belongs to one thread. The same records in the same order give the same rounds, so a worker that resumes
at a checkpoint says again what it had said.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from learners.tasks.learner import Prediction, RoundOutcome, TaskLearner
from learners.tasks.task import Task
from streams.batches import RecordBatch
from streams.dead_letters import letters
from streams.events import Metric, TaskPrediction
from streams.learning.announcements import record_id
from streams.publisher import Outgoing
from streams.tasks.decoding import Arrived, arrivals
from streams.tasks.errors import TaskChangedError
from streams.topics import QUALITY_METRICS, TASKS_PREDICTIONS
from streams.validation import RejectedEvent

Learn = Callable[[TaskLearner, list[dict[str, Any]]], RoundOutcome]
METRICS = {"classify": "accuracy", "pair": "absolute_error", "score": "absolute_error"}  # means over single examples
_TASK, _STATE = "task", "study.json"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Found:
    """What a run of records led to: records for Kafka, and rounds in their order."""

    records: list[Outgoing] = field(default_factory=list)
    rounds: list[RoundOutcome] = field(default_factory=list)


class TaskStudy:
    """Answer every example, then learn from those with a label, a round whenever enough have come.

    Args:
        learner: Of the task.
        round_examples: Labelled examples that make a round; at least 4.
        learn: Runs a round; by default the learner's own.
    """

    def __init__(self, learner: TaskLearner, *, round_examples: int, learn: Learn | None = None) -> None:
        self.learner, self._round_examples = learner, round_examples
        self._learn = learn or (lambda learner, rows: learner.learn(rows))
        self.counts: Counter[str] = Counter()
        self.waiting: list[dict[str, Any]] = []
        self._window, self._total, self._judged = 0.0, 0.0, 0
        self._newest_ms = 0

    @property
    def task(self) -> Task:
        """The declaration."""
        return self.learner.task

    def take(self, batch: RecordBatch) -> Found:
        """Answer and learn from a run of records of `tasks.examples`."""
        found = Found()
        rejected: list[RejectedEvent] = []
        asked: list[Arrived] = []
        self.counts["truncated"] += batch.truncated
        for arrived in arrivals(batch, self.task):
            if arrived is None:
                self.counts["of other tasks"] += 1
            elif isinstance(arrived, RejectedEvent):
                rejected.append(arrived)
            else:
                asked.append(arrived)
                if len(self.waiting) + sum(each.labelled for each in asked) >= self._round_examples:
                    found.records.extend(self._answer(asked))
                    asked = []
                    self._round(found)
        found.records.extend(self._answer(asked))
        self.counts["rejected"] += len(rejected)
        found.records.extend(Outgoing(*letter) for letter in letters(rejected))
        return found

    def save(self, folder: Path) -> None:
        """Write everything into a folder that is made here."""
        folder.mkdir()
        self.learner.save(folder / _TASK)
        state = {
            "counts": dict(self.counts),
            "waiting": self.waiting,
            "window": self._window,
            "total": self._total,
            "judged": self._judged,
            "newest_ms": self._newest_ms,
        }
        (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, task: Task, *, round_examples: int, learn: Learn | None = None) -> "TaskStudy":
        """Read what `save` wrote.

        Raises:
            TaskChangedError: If it was another declaration.
            CorruptTaskError: If it cannot be read.
        """
        learner = TaskLearner.load(folder / _TASK)
        if learner.task != task:
            raise TaskChangedError(path=folder, name=learner.task.name)
        study = cls(learner, round_examples=round_examples, learn=learn)
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        study.counts.update(state["counts"])
        study.waiting = state["waiting"]
        study._window, study._total = state["window"], state["total"]
        study._judged, study._newest_ms = state["judged"], state["newest_ms"]
        return study

    def _answer(self, asked: Sequence[Arrived]) -> list[Outgoing]:
        """Predict before learning; what has a label is judged and waits for the next round."""
        records = []
        said = self.learner.predict([each.fields for each in asked])
        for each, prediction in zip(asked, said, strict=True):
            records.append(self._record(each, prediction))
            self.counts["predicted"] += 1
            self._newest_ms = max(self._newest_ms, each.appended_at_ms)
            if each.labelled:
                self.counts["labelled"] += 1
                self._window += self._worth(prediction, each)
                self.waiting.append(each.fields)
        return records

    def _round(self, found: Found) -> None:
        found.records.append(self._metric())
        outcome = self._learn(self.learner, self.waiting)
        self.waiting = []
        self.counts["rounds"] += 1
        self.counts["released"] += outcome.released
        found.rounds.append(outcome)

    def _record(self, each: Arrived, prediction: Prediction) -> Outgoing:
        partition, offset = each.place
        record = TaskPrediction(
            prediction_id=record_id(self.task.key, partition, offset),
            example_id=each.example_id,
            task=self.task.name,
            value=prediction.value if prediction.value is not None else "",
            score=prediction.score,
            chances=dict(prediction.chances),
            model_version=prediction.version,
        )
        return Outgoing(TASKS_PREDICTIONS, None, each.example_id.encode(), _encode(record), ())

    def _metric(self) -> Outgoing:
        """The mean over what was judged since the last round, before it was learned."""
        count, name = len(self.waiting), METRICS[self.task.kind]
        self._judged += count
        self._total += self._window
        record = Metric(
            metric_id=record_id(self.task.key, name, self._judged),
            metric=name,
            expert=f"task:{self.task.key}",
            value=self._window / count,
            count=count,
            total_value=self._total / self._judged,
            total_count=self._judged,
            model_version=self.learner.version,
            event_time_ms=self._newest_ms,
            interactions=self.counts["labelled"],
        )
        self._window = 0.0
        return Outgoing(QUALITY_METRICS, None, name.encode(), _encode(record), ())

    def _worth(self, prediction: Prediction, each: Arrived) -> float:
        label = self.task.validate(each.fields)
        right = getattr(label, "label", None)
        if self.task.kind == "classify":
            return float(prediction.value == self.task.classes[int(right or 0)])
        return abs(prediction.score - float(right or 0.0))
