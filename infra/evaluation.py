"""`alluvium evaluate`: the learner over a log, without Kafka, one report a strategy."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from infra.composition import learner_config
from infra.evaluation_plots import draw
from infra.evaluation_table import page
from infra.settings import Settings
from infra.shelf import progress_bar, read_shelf
from learners.evaluation.comparison import Comparison
from learners.interactions import Observation
from learners.strategies import strategy_named
from streams.eventlog import LogFile, LoggedEvent, event_log
from streams.validation import surface_in


def evaluate(
    *,
    events: Path,
    catalog: Path,
    strategies: tuple[str, ...],
    limit: int | None,
    settings: Settings,
    console: Console,
    out: Path | None = None,
    encoding: str | None = None,
) -> dict[str, Any]:
    """Evaluate strategies one after another, each from the same start.

    Args:
        events: The log.
        catalog: The catalogue.
        strategies: Names; none: the default alone.
        limit: Most events; None: all.
        settings: All settings.
        console: Where progress and the table go.
        encoding: Of CSV files; None: UTF-8.
        out: A folder for `evaluation.json`, `evaluation.md` and plots, written anew after every strategy; None: none.

    Returns:
        JSON-able: `strategies`, a report each (see `Comparison.add`), `quality`, that of the first, and `pictures`, how
        many were `encoded` and how many rejected, by reason, where the model is told of them.

    Raises:
        LogFileError: A file cannot be read.
        UnknownStrategyError: There is no such strategy.
        EncoderUnavailableError: An encoder's weights are nowhere to be found.
    """
    strategies = strategies or ("default",)
    for strategy in strategies:
        strategy_named(strategy)  # before anything is read
    log = event_log(events, limit=limit, encoding=encoding)
    shelf = read_shelf([catalog], settings, console=console, encoding=encoding)
    config = learner_config(settings, shelf.layout)
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        comparison = Comparison(shelf, config=config, seed=settings.seed, folder=Path(folder))
        for strategy in dict.fromkeys(strategies):
            with progress_bar(console) as bar:
                seen = observations(log, allowed_lateness_ms=settings.ingest.allowed_lateness_s * 1000)
                advance = partial(_advance, bar, bar.add_task(strategy, total=log.total))
                comparison.add(strategy, seen, progress=advance)
            first = next(iter(comparison.reports.values()))
            report = {
                "events": str(events),
                "catalog": str(catalog),
                "limit": limit,
                "unreadable": log.unreadable,
                "seed": settings.seed,
                **({} if shelf.pictures is None else {"pictures": shelf.pictures}),
                "quality": first["quality"],
                "strategies": msgspec.to_builtins(comparison.reports),
            }
            if out is not None:
                write(report, out)
    console.print(_table(comparison.reports))
    return report


def write(report: Mapping[str, Any], out: Path) -> None:
    """Write an evaluation's JSON, its page and, where matplotlib is installed, its plots into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    plots = draw(report["strategies"], out) if find_spec("matplotlib") else []
    (out / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(page(report, plots=[path.name for path in plots]), encoding="utf-8")


def observations(log: LogFile[LoggedEvent], *, allowed_lateness_ms: int) -> Iterator[Observation]:
    """The log as interactions, judged as the worker would: repeats of an event_id dropped, late ones marked."""
    newest: dict[str, int] = {}
    seen: set[str] = set()
    for chunk in log:
        for event in chunk:
            if event.event_id in seen:
                continue
            seen.add(event.event_id)
            before = newest.get(event.user_id)
            newest[event.user_id] = event.event_time_ms if before is None else max(before, event.event_time_ms)
            yield Observation(
                user_id=event.user_id,
                item_id=event.item_id,
                event_type=event.event_type,
                event_time_ms=event.event_time_ms,
                late=before is not None and event.event_time_ms < before - allowed_lateness_ms,
                price=event.fields.get("price"),
                surface=surface_in(event.fields.get("context", {})),
            )


def _advance(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=done)


def _table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("strategy", "expert", "hit rate@10", "NDCG@10", "MRR", title="prequential quality")
    for strategy, report in reports.items():
        for expert, figures in report["quality"].items():
            shown = (f"{figures[name]:.4f}" if name in figures else "-" for name in ("hit_rate_10", "ndcg_10", "mrr"))
            table.add_row(strategy, expert, *shown)
    return table
