"""What can be wrong with what these benchmarks are given."""

from pathlib import Path

from infra.errors import UsageError


class LogMissingError(UsageError):
    """The log is not where it should be."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"{path} is missing; give the folder of the data with --data-dir, or --toy")
        self.path = path


class SeedsError(UsageError):
    """No run was asked for."""

    def __init__(self, *, seeds: int) -> None:
        super().__init__(f"--seeds is {seeds}; expected at least 1")
        self.seeds = seeds
