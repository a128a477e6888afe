"""The replay's progress, for people: how many events were sent, written to features and learned from."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.replay.backpressure import Consumed


class ProgressBar:
    """Three bars over the same number of events; a context.

    Args:
        console: Where to draw.
        total: Events to expect; None: unknown.
        learning: Whether there is a learner to show.
    """

    def __init__(self, console: Console, *, total: int | None, learning: bool) -> None:
        columns = (TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._sent = self._progress.add_task("sent", total=total)
        self._features = self._progress.add_task("features", total=total)
        self._learned = self._progress.add_task("learned", total=total) if learning else None

    def sent(self, events: int) -> None:
        """Show how many events were sent."""
        self._progress.update(self._sent, completed=events)

    def consumed(self, consumed: Consumed) -> None:
        """Show how far the pipeline is."""
        self._progress.update(self._features, completed=consumed.events)
        if self._learned is not None and consumed.learned is not None:
            self._progress.update(self._learned, completed=consumed.learned)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
