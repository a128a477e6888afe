"""What goes wrong in the composition root; each message is one line that says what to do."""


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
