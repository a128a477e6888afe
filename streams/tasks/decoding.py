"""Records of `tasks.examples` to checked examples; what is wrong is a value with its reason."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from learners.tasks.examples import Example, RejectedExample
from learners.tasks.task import Task
from streams.batches import RecordBatch
from streams.erasures import Erasures
from streams.events import TaskExample
from streams.validation import RejectedEvent, UnusableError, rejection

_decode = msgspec.json.Decoder(TaskExample).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """An example of ours whose person asked to be forgotten after it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A usable example of one of our tasks.

    Args:
        example_id: As sent.
        task: Name of its task.
        place: Partition and offset of its record.
        example: Checked, with its label where it has one, and whose it is.
        appended_at_ms: The record's Kafka timestamp.
    """

    example_id: str
    task: str
    place: tuple[int, int]
    example: Example
    appended_at_ms: int

    @property
    def labelled(self) -> bool:
        """Whether its label is known."""
        return self.example.label is not None


def arrivals(
    batch: RecordBatch, tasks: Mapping[str, Task], erasures: Erasures
) -> Iterator[Arrived | Erased | RejectedEvent | None]:
    """Yield, record by record: a usable example, what is wrong with it, or None for one of a task that is not ours.

    Args:
        batch: Of `tasks.examples`.
        tasks: Ours, by name.
        erasures: Who is forgotten, and up to when; an example is as old as its record.
    """
    columns = zip(batch.offsets, batch.keys, batch.values, batch.timestamps_ms, strict=True)
    for row, (offset, key, value, appended_at_ms) in enumerate(columns):
        try:
            sent = _example(key, value)
            if (task := tasks.get(sent.task)) is None:
                yield None
                continue
            known_at_ms = max(appended_at_ms, 0)
            if sent.user_id is not None and erasures.covers(sent.user_id, known_at_ms):
                yield Erased()
                continue
            checked = task.validate(sent.fields, labelled=sent.fields.get(task.target) is not None)
            if isinstance(checked, RejectedExample):
                raise UnusableError(stage="validate", reason=checked.reason)  # noqa: TRY301 - one way to a dead letter
            if sent.user_id is not None:
                checked = replace(checked, user_id=sent.user_id, known_at_ms=known_at_ms)
            yield Arrived(
                example_id=sent.example_id,
                task=task.name,
                place=(batch.partition, offset),
                example=checked,
                appended_at_ms=appended_at_ms,
            )
        except Exception as exc:  # noqa: BLE001 - whatever a producer sends must not stop the rest
            yield rejection(batch, row, exc)


def _example(key: bytes | None, value: bytes | None) -> TaskExample:
    if not value:
        what = "null" if value is None else "empty"
        raise UnusableError(stage="decode", reason=f"value is {what}; expected a JSON object")
    example = _decode(value)
    if key != example.example_id.encode():
        raise UnusableError(stage="validate", reason="key is not the example_id")
    return example
