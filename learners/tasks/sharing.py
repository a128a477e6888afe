"""What tasks that are learned jointly have in common: the encoder's adapter, or all but their last layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from learners.tasks.backbones import sharing_copy
from learners.tasks.config import one_of, refuse_sequence
from learners.tasks.errors import InvalidTaskError
from learners.tasks.model import TaskModel
from learners.tasks.task import Task

ENCODER, TRUNK = "encoder", "trunk"
_OF_THE_ENCODER: Mapping[str, Callable[[Task], Any]] = {
    "text_encoder": lambda task: task.text_encoder,
    "training.encoder": lambda task: task.training.encoder,
    "training.rank": lambda task: task.training.rank,
    "training.alpha": lambda task: task.training.alpha,
    "training.encoder_learning_rate": lambda task: task.training.encoder_rate,
}
_OF_THE_TRUNK: Mapping[str, Callable[[Task], Any]] = {
    "inputs": lambda task: task.inputs,
    "numbers": lambda task: task.numbers,
    "head": lambda task: task.head,
    "kind": lambda task: "pair of texts" if task.kind == "pair" and task.head.interaction != "cross" else "one text",
    "training.max_tokens": lambda task: task.training.max_tokens,
    "training.learning_rate": lambda task: task.training.learning_rate,
}
AGREED: Mapping[str, Mapping[str, Callable[[Task], Any]]] = {
    ENCODER: _OF_THE_ENCODER,
    TRUNK: {**_OF_THE_ENCODER, **_OF_THE_TRUNK},
}


def check_shared(tasks: Sequence[Task], share: str) -> None:
    """Refuse tasks that cannot share what they are to share.

    Args:
        tasks: To be learned jointly, or one, which shares with nobody.
        share: `encoder`: one adapter (LoRA's additions, or the whole encoder), pooling and head of each task's own;
            `trunk`: pooling and hidden layers, too, so that only last layers are of each task's own.

    >>> topic = Task(name="topic", kind="score", inputs=("text",), target="a", text_encoder="hash")
    >>> check_shared([topic, Task(name="size", kind="score", inputs=("text",), target="b")], "trunk")
    Traceback (most recent call last):
        ...
    learners.tasks.errors.InvalidTaskError: task's text_encoder is 'minilm'; expected 'hash', as topic has it: ...

    Raises:
        InvalidTaskError: If names are not different, a task is of kind `sequence`, what must agree does not, or nothing
            would be shared.
    """
    one_of("share", share, AGREED)
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names):
        raise InvalidTaskError(name="name", value=names, expected="at least one task, each with a name of its own")
    for task in tasks:
        refuse_sequence(task.kind)
    first = tasks[0]
    for task in tasks[1:]:
        for field, read in AGREED[share].items():
            if read(task) != read(first):
                expected = f"{read(first)!r}, as {first.name} has it: jointly learned tasks share the {share}"
                raise InvalidTaskError(name=field, value=read(task), expected=expected)
    if share == ENCODER and len(tasks) > 1:
        if first.training.encoder == "frozen":
            expected = f"lora or full, or share = {TRUNK!r}: a frozen encoder has nothing to be learned jointly"
            raise InvalidTaskError(name="training.encoder", value="frozen", expected=expected)
        for task in tasks:
            if not task.inputs:
                raise InvalidTaskError(name="inputs", value=(), expected="at least one text, to share the encoder")


def tie(models: Sequence[TaskModel], share: str) -> None:
    """Let models use the first one's layers wherever they share.

    Args:
        models: Of tasks that passed `check_shared`; changed where they are.
        share: `encoder` or `trunk`.
    """
    first = models[0]
    for model in models[1:]:
        model.adapter = first.adapter
        if share == TRUNK:
            model.pooling = first.pooling
            shared, own = list(first.head.children())[:-1], list(model.head.children())[-1]
            model.head = nn.Sequential(*shared, own)
            model.number_means, model.number_spreads = first.number_means, first.number_spreads


def tied_copies(models: Sequence[TaskModel]) -> list[TaskModel]:
    """Return copies to train, which share among themselves what the models share."""
    copied: Any = sharing_copy(nn.ModuleList(models))
    return list(copied)


def changing(models: Sequence[TaskModel]) -> dict[str, Tensor]:
    """Return all that learning changes in tied models, each tensor once, by the model's place and its name there."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for place, model in enumerate(models):
        for name, value in model.changing().items():
            if id(value) not in seen:
                seen.add(id(value))
                found[f"{place}.{name}"] = value
    return found
