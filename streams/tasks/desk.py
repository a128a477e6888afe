"""One task of a worker: it answers examples, judges its answers, and keeps what waits to be learned."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import msgspec

from learners.tasks.examples import Example
from learners.tasks.learner import Prediction, TaskLearner
from streams.events import Metric, TaskPrediction
from streams.learning.announcements import record_id
from streams.publisher import Outgoing
from streams.tasks.decoding import Arrived
from streams.topics import QUALITY_METRICS, TASKS_PREDICTIONS

METRICS = {"classify": "accuracy", "pair": "absolute_error", "score": "absolute_error"}  # means over single examples
Place = tuple[int, int]  # partition and offset
_encode = msgspec.json.Encoder().encode


class Desk:
    """Answer a task's examples before they are learned, whether it learns alone or with others.

    Args:
        learner: Of the task; whoever runs the rounds changes it.
    """

    def __init__(self, learner: TaskLearner) -> None:
        self.learner, self.task = learner, learner.task
        self.waiting: list[Example] = []
        self._places: list[Place | None] = []  # of what waits; None where that is not known
        self._offsets: dict[int, int] = {}
        self._window, self._window_count = 0.0, 0
        self._total, self._judged = 0.0, 0
        self._newest_ms = 0

    def answer(self, asked: Sequence[Arrived]) -> list[Outgoing]:
        """Return what is said of examples, in their order; what has a label is judged and waits for a round."""
        records = []
        said = self.learner.predict([each.example for each in asked])
        for each, prediction in zip(asked, said, strict=True):
            records.append(self._record(each, prediction))
            self._newest_ms = max(self._newest_ms, each.appended_at_ms)
            if each.labelled:
                self._window += self._worth(prediction, each.example)
                self._window_count += 1
                self.waiting.append(each.example)
                self._places.append(each.place)
        return records

    @property
    def offsets(self) -> dict[str, int]:
        """Partition of `tasks.examples` -> offset after the last example that was handed over to a round."""
        return {str(partition): offset for partition, offset in sorted(self._offsets.items())}

    def hand_over(self, *, interactions: int) -> tuple[list[Example], Outgoing]:
        """Return what waits, oldest first, and how well it was answered before it was learned; nothing waits then.

        Args:
            interactions: Labelled examples that the worker has seen so far.
        """
        record = self._metric(interactions)
        for partition, offset in filter(None, self._places):
            self._offsets[partition] = max(self._offsets.get(partition, 0), offset + 1)
        waiting, self.waiting, self._places = self.waiting, [], []
        return waiting, record

    def forget(self, user_id: str, until_ms: int) -> int:
        """Drop what waits of a person; returns how many examples. How well they were answered still counts."""
        before, places = self.waiting, self._places
        stays = [not example.forgotten(user_id, until_ms) for example in before]
        self.waiting, self._places = list(compress(before, stays)), list(compress(places, stays))
        return len(before) - len(self.waiting)

    def leave_log(self) -> None:
        """Forget every offset, because Kafka is another one than before; what waits still waits."""
        self._places, self._offsets = [None] * len(self.waiting), {}

    def get_state(self) -> dict[str, Any]:
        """Return all but the learner, as JSON-able values."""
        return {
            "waiting": [example.as_row() for example in self.waiting],
            "places": self._places,
            "offsets": self.offsets,
            "window": self._window,
            "window_count": self._window_count,
            "total": self._total,
            "judged": self._judged,
            "newest_ms": self._newest_ms,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described, or what workers wrote before they kept offsets or had several tasks."""
        rows = [self._restored(row) for row in state["waiting"]]
        places = [None if place is None else tuple(place) for place in state.get("places", [None] * len(rows))]
        kept = [(row, place) for row, place in zip(rows, places, strict=True) if isinstance(row, Example)]
        self.waiting, self._places = [row for row, _ in kept], [place for _, place in kept]
        self._offsets = {int(partition): offset for partition, offset in state.get("offsets", {}).items()}
        self._window, self._window_count = state["window"], state.get("window_count", len(self.waiting))
        self._total, self._judged = state["total"], state["judged"]
        self._newest_ms = state["newest_ms"]

    def _restored(self, row: Any) -> Any:
        return self.task.validate(row) if isinstance(row, dict) else Example.from_row(row)

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

    def _metric(self, interactions: int) -> Outgoing:
        """The mean over what was judged since the last round, before it was learned."""
        count, name = self._window_count, METRICS[self.task.kind]
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
            interactions=interactions,
        )
        self._window, self._window_count = 0.0, 0
        return Outgoing(QUALITY_METRICS, None, name.encode(), _encode(record), ())

    def _worth(self, prediction: Prediction, example: Example) -> float:
        if self.task.kind == "classify":
            return float(prediction.value == self.task.classes[int(example.label or 0)])
        return abs(prediction.score - float(example.label or 0.0))
