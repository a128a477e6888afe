"""What goes wrong in the composition root; each message is one line that says what to do."""

from collections.abc import Sequence
from pathlib import Path


class InfraError(Exception):
    """Base of every error of this package. `exit_code` is what the command line returns for it."""

    exit_code = 1


class SettingsError(InfraError, ValueError):
    """A setting is unknown, missing or out of its bounds; nothing was started."""

    exit_code = 2


class UsageError(InfraError, ValueError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class EmbeddedStartError(InfraError, RuntimeError):
    """The embedded Kafka or Postgres did not come up."""

    def __init__(self, *, part: str, reason: str) -> None:
        super().__init__(f"embedded {part} did not start: {reason}")
        self.part, self.reason = part, reason


class ProcessFailedError(InfraError, RuntimeError):
    """A supervised process ended, or never became ready."""

    def __init__(self, *, name: str, reason: str, log_tail: str = "") -> None:
        super().__init__(f"process {name!r} {reason}" + (f"; the end of its log:\n{log_tail}" if log_tail else ""))
        self.name = name


class OutputExistsError(InfraError, FileExistsError):
    """What a command would write is there already; nothing was done."""

    exit_code = 2

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"{path} exists; expected a directory that is yet to be made")
        self.path = path


class RefusedModelError(InfraError, RuntimeError):
    """The gate refused a model that a command trained; nothing was written."""

    def __init__(self, *, reasons: Sequence[str]) -> None:
        super().__init__(f"the gate refuses the model, nothing was written: {'; '.join(reasons)}")
        self.reasons = tuple(reasons)
