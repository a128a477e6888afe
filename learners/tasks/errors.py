"""What can go wrong with a task."""

from pathlib import Path

from learners.errors import LearnerError


class InvalidTaskError(LearnerError, ValueError):
    """A field of a task's declaration is wrong."""

    def __init__(self, *, name: str, value: object, expected: str) -> None:
        super().__init__(f"task's {name} is {value!r}; expected {expected}")
        self.name, self.value = name, value


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
