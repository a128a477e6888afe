"""A sequence task is the shared model behind a task's verbs."""

from pathlib import Path

import pytest

from learners.encoder import HashEncoder
from learners.tasks.errors import InvalidTaskError
from learners.tasks.learner import TaskLearner
from learners.tasks.sequence import SequenceLearner
from learners.tasks.task import Task
from tests.learners.stream_data import CONFIG, SHAPE, catalog, stream
from tests.learners.tasks.tasks_data import topic_task

TASK = Task(
    name="next-item",
    kind="sequence",
    inputs=("user_id", "item_id"),
    numbers=("event_time_ms",),
    target="next_item",
    text_encoder="hash",
)


def rows(count: int, *, start: int = 0) -> list[dict[str, object]]:
    titles = catalog()
    return [
        {
            "user_id": event.user_id,
            "item_id": event.item_id,
            "event_time_ms": event.event_time_ms,
            "event_type": event.event_type,
            "title": titles.text_of(titles.index_of(event.item_id) or 0) if titles.index_of(event.item_id) else None,
        }
        for event in stream(count, start=start)
    ]


def test_interactions_are_judged_learned_and_predicted(tmp_path: Path):
    learner = SequenceLearner(TASK, folder=tmp_path, seed=0, config=CONFIG, encoder=HashEncoder(width=SHAPE.text_width))
    first = learner.learn([{"user_id": "", "item_id": "x", "event_time_ms": 1.0}, *rows(600)])
    assert first.released, first.reason
    assert [each.field for each in first.rejected] == ["user_id"]
    before = learner.evaluate()["ndcg_10"]
    second = learner.learn(rows(600, start=600))
    assert (second.version, second.released) == (2, True), second.reason
    assert learner.evaluate()["ndcg_10"] > before  # it knew more when it met the second half
    (said,) = learner.predict([{"user_id": "user-3"}])
    assert said.version == 2
    assert said.value in learner.learner.catalog.item_ids
    assert len(said.chances) == 10


def test_kinds_are_not_mixed_up(tmp_path: Path):
    with pytest.raises(InvalidTaskError, match="SequenceLearner"):
        TaskLearner(TASK)
    with pytest.raises(InvalidTaskError, match="expected sequence"):
        SequenceLearner(topic_task(), folder=tmp_path)
    wrong = Task.from_dict({**TASK.as_dict(), "numbers": []})
    with pytest.raises(InvalidTaskError, match="event_time_ms"):
        SequenceLearner(wrong, folder=tmp_path)
