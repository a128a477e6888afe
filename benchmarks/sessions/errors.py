"""What can be wrong with what the session benchmark is given; each message is one line that says what to do."""

from pathlib import Path

from infra.errors import UsageError


class SessionsFileError(UsageError):
    """The sessions file is missing, or not what it should be."""

    def __init__(self, *, path: Path, found: str, expected: str) -> None:
        super().__init__(f"--sessions {path}: {found}; expected {expected}")
        self.path = path


class OptionError(UsageError):
    """An option of the benchmark is out of its range."""

    def __init__(self, *, option: str, value: object, expected: str) -> None:
        super().__init__(f"{option} is {value}; expected {expected}")
        self.option = option


class OtherRunError(UsageError):
    """The state folder holds the updates of another run: other data, or other settings."""

    def __init__(self, *, path: Path, differing: str) -> None:
        super().__init__(f"--state {path} was written with another {differing}; give another folder, or remove it")
        self.path = path
