"""What can go wrong with a task."""

from pathlib import Path

from learners.errors import DivergedError, LearnerError


class InvalidTaskError(LearnerError, ValueError):
    """A field of a task's declaration is wrong; `path` is the file that it lies in, if it does."""

    def __init__(self, *, name: str, value: object, expected: str, path: Path | None = None) -> None:
        where = "" if path is None else f"{path}: "
        super().__init__(f"{where}task's {name} is {value!r}; expected {expected}")
        self.name, self.value, self.expected = name, value, expected


class CorruptTaskError(LearnerError, ValueError):
    """What was saved of a task cannot be read."""

    def __init__(self, *, path: Path, cause: str) -> None:
        super().__init__(f"saved task {path} cannot be read: {cause}")
        self.path = path


class TaskNotFoundError(LearnerError, LookupError):
    """Nothing of a task was saved here."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"no saved task in {path}")
        self.path = path


class TaskDivergedError(DivergedError):
    """The loss of one of several jointly learned tasks stopped being finite; the candidate was dropped."""

    def __init__(self, *, task: str, step: int, loss: float) -> None:
        super().__init__(step=step, loss=loss)
        self.task = task
