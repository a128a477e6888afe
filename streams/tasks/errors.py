"""What can go wrong with a task behind Kafka, beyond Kafka itself."""

from collections.abc import Sequence
from pathlib import Path

from streams.errors import StreamsError


class TaskBusyError(StreamsError, RuntimeError):
    """Another worker holds this task's folder; two would learn everything twice."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"another task worker holds {path}; expected one worker per task and data folder")
        self.path = path


class TaskChangedError(StreamsError, ValueError):
    """The checkpoint was learned under other declarations, or by tasks that shared something else."""

    def __init__(self, *, path: Path, names: Sequence[str], share: str = "") -> None:
        held = f"task {names[0]!r}" if not share else f"tasks {', '.join(map(repr, names))} (share {share})"
        super().__init__(f"checkpoint {path} holds {held} declared otherwise; expected the same declaration")
        self.path = path
