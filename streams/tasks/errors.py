"""What can go wrong with a task behind Kafka, beyond Kafka itself."""

from pathlib import Path

from streams.errors import StreamsError


class TaskBusyError(StreamsError, RuntimeError):
    """Another worker holds this task's folder; two would learn everything twice."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"another task worker holds {path}; expected one worker per task and data folder")
        self.path = path


class TaskChangedError(StreamsError, ValueError):
    """The checkpoint was learned under another declaration."""

    def __init__(self, *, path: Path, name: str) -> None:
        super().__init__(f"checkpoint {path} holds task {name!r} declared otherwise; expected the same declaration")
        self.path = path
