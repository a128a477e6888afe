"""Records of `tasks.examples` to checked examples; what is wrong is a value with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from learners.tasks.examples import RejectedExample
from learners.tasks.task import Task
from streams.batches import RecordBatch
from streams.events import TaskExample
from streams.validation import RejectedEvent, UnusableError, rejection

_decode = msgspec.json.Decoder(TaskExample).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A usable example of our task.

    Args:
        example_id: As sent.
        place: Partition and offset of its record.
        fields: Checked; as sent.
        labelled: Whether its label is known.
        appended_at_ms: The record's Kafka timestamp.
    """

    example_id: str
    place: tuple[int, int]
    fields: dict[str, Any]
    labelled: bool
    appended_at_ms: int


def arrivals(batch: RecordBatch, task: Task) -> Iterator[Arrived | RejectedEvent | None]:
    """Yield, record by record: a usable example, what is wrong with it, or None for one of another task.

    Args:
        batch: Of `tasks.examples`.
        task: Ours.
    """
    columns = zip(batch.offsets, batch.keys, batch.values, batch.timestamps_ms, strict=True)
    for row, (offset, key, value, appended_at_ms) in enumerate(columns):
        try:
            example = _example(key, value)
            if example.task != task.name:
                yield None
                continue
            labelled = example.fields.get(task.target) is not None
            checked = task.validate(example.fields, labelled=labelled)
            if isinstance(checked, RejectedExample):
                raise UnusableError(stage="validate", reason=checked.reason)  # noqa: TRY301 - one way to a dead letter
            yield Arrived(
                example_id=example.example_id,
                place=(batch.partition, offset),
                fields=example.fields,
                labelled=labelled,
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
