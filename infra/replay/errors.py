"""What ends a replay before its time."""

from infra.errors import InfraError


class StalledError(InfraError, TimeoutError):
    """Something that the replay waits for stopped moving."""

    def __init__(self, *, waiting_for: str, seconds: float) -> None:
        super().__init__(f"waited {seconds:.0f} s without any progress for {waiting_for}")
        self.waiting_for = waiting_for
