"""Examples: what a task learns from and answers, checked once; a wrong one is a value, never an exception."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_CHARACTERS = 20_000  # of a text: whatever follows is beyond any encoder's cut-off, and bounds what is remembered
LARGEST = 1e15  # numbers beyond it would drown all others in single precision


@dataclass(frozen=True, slots=True)
class Example:
    """One checked example.

    Args:
        texts: Of the task's inputs, in their order.
        numbers: Of the task's numbers, in their order; NaN where missing.
        label: Index of the class, or the number itself; None where it is to be predicted.
        user_id: Whose it is, where that is known; nothing is learned from it.
        known_at_ms: Since when we have it, in ms since 1970, where it is somebody's.
    """

    texts: tuple[str, ...]
    numbers: tuple[float, ...] = ()
    label: float | None = None
    user_id: str | None = field(default=None, repr=False)
    known_at_ms: int = field(default=0, repr=False)

    def forgotten(self, user_id: str, until_ms: int) -> bool:
        """Whether it goes when this person's examples up to and including a time are forgotten.

        >>> example = Example(("tea",), user_id="ada", known_at_ms=5)
        >>> example.forgotten("ada", 5), example.forgotten("ada", 4), example.forgotten("bob", 5)
        (True, False, False)
        """
        return self.user_id == user_id and self.known_at_ms <= until_ms

    def as_row(self) -> list[Any]:
        """Return JSON-able values; `from_row` reads them.

        >>> Example(("tea",), (math.nan, 2.0), label=1.0).as_row()
        [['tea'], [None, 2.0], 1.0]
        """
        numbers = [None if math.isnan(number) else number for number in self.numbers]
        owner = [] if self.user_id is None else [self.user_id, self.known_at_ms]
        return [list(self.texts), numbers, self.label, *owner]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Example":
        """Return what `as_row` described."""
        texts, numbers, label, *owner = row
        read = tuple(math.nan if number is None else float(number) for number in numbers)
        return cls(tuple(texts), read, label, *owner)


@dataclass(frozen=True, slots=True)
class RejectedExample:
    """An example that cannot be used, with the field and what is wrong with it."""

    field: str
    reason: str


class _UnusableError(ValueError):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.rejected = RejectedExample(field, f"{field} {reason}")


def checked(
    values: Mapping[str, Any],
    *,
    inputs: Sequence[str],
    numbers: Sequence[str],
    target: str,
    classes: Sequence[str],
    labelled: bool,
) -> Example | RejectedExample:
    """Return the example, or why it is none.

    Args:
        values: Field -> value; fields that the task does not name are left alone.
        inputs: Names of the texts; each must be there and not blank.
        numbers: Names of the numbers; null or absent is missing.
        target: Name of the label.
        classes: What the label may be; empty: any finite number.
        labelled: Whether the label must be there.

    >>> fields = dict(inputs=["text"], numbers=["age"], target="topic", classes=["a", "b"], labelled=True)
    >>> checked({"text": "hello", "topic": "b"}, **fields)
    Example(texts=('hello',), numbers=(nan,), label=1.0)
    >>> checked({"text": " ", "topic": "b"}, **fields)
    RejectedExample(field='text', reason='text is blank; expected some text')
    """
    try:
        texts = tuple(_text(name, values.get(name)) for name in inputs)
        found = tuple(_number(name, values.get(name)) for name in numbers)
        label = _label(target, values.get(target), classes, labelled=labelled)
    except _UnusableError as error:
        return error.rejected
    return Example(texts, found, label)


def _text(name: str, value: Any) -> str:
    if value is None:
        raise _UnusableError(name, "is missing; expected some text")
    if not isinstance(value, str):
        raise _UnusableError(name, f"is of type {type(value).__name__}; expected text")
    if not value.strip():
        raise _UnusableError(name, "is blank; expected some text")
    return value[:MOST_CHARACTERS].encode("utf-8", "replace").decode()  # half a surrogate pair breaks tokenizers


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise _UnusableError(name, "is no number within 1e15; expected one, or null where it is missing")
    return float(value)


def _label(name: str, value: Any, classes: Sequence[str], *, labelled: bool) -> float | None:
    if value is None:
        if labelled:
            raise _UnusableError(name, "is missing; expected the label")
        return None
    if classes:
        said = f"{value:g}" if isinstance(value, float) else str(value)  # JSON and CSV have no whole numbers
        if said not in classes:
            raise _UnusableError(name, f"is none of the {len(classes)} classes")
        return float(classes.index(said))
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise _UnusableError(name, "is no number within 1e15")
    return float(value)
