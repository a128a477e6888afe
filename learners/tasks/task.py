"""A task: what goes in, what is to be predicted, and how it is learned; a few lines of TOML."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from learners.tasks.config import KINDS, LOSSES, HeadConfig, Kind, TrainingConfig, one_of, read_section
from learners.tasks.errors import InvalidTaskError
from learners.tasks.examples import Example, RejectedExample, checked

_NAME = re.compile(r"^[\w.+-]{1,100}\Z")
_SIDES = 2  # of a pair
_SECTIONS: Mapping[str, Any] = {"head": HeadConfig, "training": TrainingConfig}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The declaration of a task.

    Args:
        name: Letters, digits and . + - _; with the kind it names what the task leaves in the knowledge store.
        kind: `sequence` (next item), `pair` (how well two texts go together), `classify` or `score` (a number).
        inputs: Fields of an example that are texts; of a pair two, left and right. Several texts of the other kinds
            are read as one.
        numbers: Fields that are numbers (`classify`, `score`): standardised on what was learned first; may be missing.
        target: Field of the label.
        classes: Of `classify`: what the label may be.
        text_encoder: `minilm`, `hash`, a folder, or a name on the hub; as the setting of that name.
        head: What follows the encoder.
        training: How rounds train.

    >>> task = Task(name="topic", kind="classify", inputs=("text",), target="topic", classes=("tea", "mugs"))
    >>> task.validate({"text": "green tea", "topic": "tea"}), task.loss, task.key
    (Example(texts=('green tea',), numbers=(), label=0.0), 'cross_entropy', 'classify/topic')

    Raises:
        InvalidTaskError: If the declaration contradicts itself.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    target: str
    numbers: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    text_encoder: str = "minilm"
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        """Check everything once."""
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise InvalidTaskError(name="name", value=self.name, expected="1 to 100 letters, digits or . + - _")
        one_of("kind", self.kind, KINDS)
        for name in ("inputs", "numbers", "classes"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not isinstance(self.target, str) or self.target in {"", *self.inputs, *self.numbers}:
            raise InvalidTaskError(name="target", value=self.target, expected="a field that is no input")
        if not isinstance(self.text_encoder, str) or not self.text_encoder:
            raise InvalidTaskError(name="text_encoder", value=self.text_encoder, expected="the name of an encoder")
        self._check_fields()
        if self.training.loss:
            one_of("training.loss", self.training.loss, LOSSES[self.kind])

    def _check_fields(self) -> None:
        if self.kind == "pair" and (len(self.inputs) != _SIDES or self.numbers):
            raise InvalidTaskError(
                name="inputs", value=self.inputs, expected="two texts, left and right, and no numbers"
            )
        if not self.inputs and not self.numbers:
            raise InvalidTaskError(name="inputs", value=self.inputs, expected="at least one field, here or in numbers")
        if self.kind == "classify" and len(self.classes) < _SIDES:
            raise InvalidTaskError(name="classes", value=self.classes, expected="at least two")
        if self.kind != "classify" and self.classes:
            raise InvalidTaskError(name="classes", value=self.classes, expected=f"none, because kind is {self.kind}")

    @classmethod
    def from_toml(cls, path: Path) -> "Task":
        """Read a declaration.

        Raises:
            InvalidTaskError: If the file cannot be read or declares no task.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidTaskError(name="file", value=str(path), expected=f"readable TOML: {error}") from error
        try:
            return cls.from_dict(values)
        except InvalidTaskError as error:
            raise InvalidTaskError(name=error.name, value=error.value, expected=error.expected, path=path) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Task":
        """Build a task from plain values, such as those of `as_dict`.

        >>> Task.from_dict({"name": "price", "kind": "score", "inputs": ["title"], "target": "price"}).loss
        'mse'

        Raises:
            InvalidTaskError: If a field is missing, unknown or wrong.
        """
        known = [each.name for each in fields(cls)]
        for name, value in values.items():
            if name not in known:
                raise InvalidTaskError(name=name, value=value, expected=f"one of {', '.join(known)}")
        for name in ("name", "kind", "target"):
            if name not in values:
                raise InvalidTaskError(name=name, value=None, expected="to be there")
        sections = {name: read_section(section, name, values.get(name, {})) for name, section in _SECTIONS.items()}
        return cls(**{"inputs": (), **values, **sections})

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `from_dict` reads them."""
        return asdict(self)

    @property
    def key(self) -> str:
        """The task's name in the knowledge store."""
        return f"{self.kind}/{self.name}"

    @property
    def loss(self) -> str:
        """The name of the loss."""
        return self.training.loss or LOSSES[self.kind][0]

    def validate(self, example: Mapping[str, Any] | Example, *, labelled: bool = True) -> Example | RejectedExample:
        """Return the checked example, or why it cannot be used.

        Args:
            example: Field -> value; or one that this task has checked, which is returned as it is.
            labelled: Whether the label must be there.
        """
        if isinstance(example, Example):
            if labelled and example.label is None:
                return RejectedExample(self.target, f"{self.target} is missing; expected the label")
            return example
        return checked(
            example,
            inputs=self.inputs,
            numbers=self.numbers,
            target=self.target,
            classes=self.classes,
            labelled=labelled,
        )


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
        raise InvalidTaskError(name=name, value=value, expected="a list of names")
    if len(set(value)) != len(value):
        raise InvalidTaskError(name=name, value=value, expected="different names")
    return tuple(value)
