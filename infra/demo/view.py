"""The demo's live view: a dashboard on a terminal, plain lines everywhere else."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24
SHOWN_ALARMS = 6


@dataclass(frozen=True, kw_only=True)
class DriftMark:
    """A planted drift in the view: where on the way it lies and what became of it.

    Args:
        name: What changes.
        share: When it starts, as a share of the span, 0 to 1.
        state: "to come", "planted" or "caught".
    """

    name: str
    share: float
    state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that the view shows at one moment.

    Args:
        share: How much of the traffic is done, 0 to 1.
        day: Simulated days since the traffic began.
        events: Events sent.
        events_per_s: Over the last seconds.
        freshness_ms: Median and 99th percentile of the newest rankings, from broker append.
        lag: Interactions the learner has still to learn; None if it does not say.
        note: What is going on besides, e.g. "round running".
        version: Release that serves; 0 before the first.
        releases: Releases so far.
        quality: Per expert, hit rate@10 of every window so far, oldest first.
        click_rates: Learned and control, so far.
        drifts: Planted drifts.
        alarms: Newest last: simulated day and metric.
    """

    share: float
    day: float
    events: int
    events_per_s: float
    freshness_ms: tuple[float, float] | None = None
    lag: int | None = None
    note: str = ""
    version: int = 0
    releases: int = 0
    quality: Mapping[str, Sequence[float]] = field(default_factory=dict)
    click_rates: tuple[float | None, float | None] = (None, None)
    drifts: Sequence[DriftMark] = ()
    alarms: Sequence[tuple[float, str]] = ()


def sparkline(values: Sequence[float]) -> str:
    """A line of blocks, from 0 to the highest value; the newest ones if there are too many.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    newest = values[-SPARK_WIDTH:]
    high = max(newest, default=0.0) or 1.0
    return "".join(SPARKS[min(int(value / high * len(SPARKS)), len(SPARKS) - 1)] for value in newest)


def plain_line(snapshot: Snapshot) -> str:
    """The state in one line, for logs.

    >>> plain_line(Snapshot(share=0.5, day=14.0, events=1000, events_per_s=120.0, version=2, releases=2))
    ' 50 %  day 14.0  1,000 events (120/s)  version 2  2 releases'
    """
    parts = [
        f"{snapshot.share:4.0%}".replace("%", " %"),
        f"day {snapshot.day:.1f}",
        f"{snapshot.events:,} events ({snapshot.events_per_s:,.0f}/s)",
    ]
    if snapshot.freshness_ms:
        parts.append(f"rankings fresh in {snapshot.freshness_ms[0]:,.0f} ms (p99 {snapshot.freshness_ms[1]:,.0f})")
    parts += [f"version {snapshot.version}", f"{snapshot.releases} releases"]
    if mixture := snapshot.quality.get("mixture"):
        parts.append(f"hit rate {mixture[-1]:.3f}")
    learned, control = snapshot.click_rates
    if learned is not None and control is not None:
        parts.append(f"clicks {learned:.1%} against {control:.1%}")
    caught = [mark.name for mark in snapshot.drifts if mark.state == "caught"]
    if caught:
        parts.append(f"caught {', '.join(caught)}")
    if snapshot.note:
        parts.append(snapshot.note)
    return "  ".join(parts)


def dashboard(snapshot: Snapshot) -> RenderableType:
    """The state as panels."""
    progress = Table.grid(expand=True, padding=(0, 1))
    progress.add_column(ratio=1)
    progress.add_row(ProgressBar(total=1.0, completed=snapshot.share), f"{snapshot.share:.0%}")
    panels = Table.grid(expand=True)
    for ratio in (10, 9, 11):
        panels.add_column(ratio=ratio)
    panels.add_row(_flow(snapshot), _clicks(snapshot), _drift(snapshot))
    return Group(
        Text.assemble(("Alluvium demo", "bold"), f"   simulated day {snapshot.day:.1f}   ", (snapshot.note, "dim")),
        progress,
        panels,
        _quality(snapshot),
    )


def _flow(snapshot: Snapshot) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_row("events", f"{snapshot.events:,}")
    table.add_row("events/s", f"{snapshot.events_per_s:,.0f}")
    fresh = snapshot.freshness_ms
    table.add_row("fresh in", f"{fresh[0]:,.0f} ms, p99 {fresh[1]:,.0f}" if fresh else "-")
    table.add_row("still to learn", "-" if snapshot.lag is None else f"{snapshot.lag:,}")
    table.add_row("serving", f"version {snapshot.version}" if snapshot.version else "fast memory")
    table.add_row("releases", str(snapshot.releases))
    return Panel(table, title="flow", border_style="dim")


def _clicks(snapshot: Snapshot) -> Panel:
    learned, control = snapshot.click_rates
    table = Table.grid(padding=(0, 2))
    table.add_row("published rankings", "-" if learned is None else f"{learned:.1%}")
    table.add_row("bestsellers (control)", "-" if control is None else f"{control:.1%}")
    if learned and control:
        table.add_row(
            "lift", Text(f"{learned / control - 1:+.0%}", style="bold green" if learned > control else "bold")
        )
    return Panel(table, title="click rate", border_style="dim")


def _drift(snapshot: Snapshot) -> Panel:
    table = Table.grid(padding=(0, 2))
    styles = {"to come": "dim", "planted": "yellow", "caught": "bold green"}
    for mark in snapshot.drifts:
        table.add_row(mark.name, Text(mark.state, style=styles[mark.state]))
    for day, metric in snapshot.alarms[-SHOWN_ALARMS:]:
        table.add_row(Text(f"day {day:.1f}", style="red"), metric)
    return Panel(table, title="drift", border_style="dim")


def _quality(snapshot: Snapshot) -> Panel:
    table = Table.grid(padding=(0, 2))
    best_first = sorted(snapshot.quality.items(), key=lambda row: -row[1][-1] if row[1] else 0.0)
    for expert, values in best_first:
        if values:
            table.add_row(expert, f"{values[-1]:.3f}", Text(sparkline(values), style="cyan"))
    return Panel(table, title="hit rate@10 per expert, scored before learning", border_style="dim")


class View:
    """Shows snapshots: live on a terminal, as a line now and then elsewhere.

    Args:
        console: Where to.
        clock: Monotonic seconds.
    """

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console()
        self._clock = clock
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._said_at: float | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, message: str) -> None:
        """Print a line that stays."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot; without a terminal at most one line every `PLAIN_EVERY_S` seconds."""
        if self._live:
            self._live.update(dashboard(snapshot), refresh=True)
            return
        now = self._clock()
        if self._said_at is None or now - self._said_at >= PLAIN_EVERY_S:
            self._said_at = now
            self.say(plain_line(snapshot))
