"""`alluvium evaluate`: the learner over a log, without Kafka, one report a strategy."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from infra.composition import TEXT_VECTORS, learner_config
from infra.evaluation_plots import draw
from infra.evaluation_table import page
from infra.settings import Settings
from learners.evaluation.comparison import Comparison
from learners.interactions import Observation
from learners.items.catalog import item_text
from learners.items.encoder import Encoder, open_encoder
from learners.strategies import strategy_named
from streams.eventlog import LogFile, LoggedEvent, catalog_file, event_log
from streams.validation import surface_in

ITEM_FIELDS = ("item_id", "title", "description", "category", "brand", "price", "attributes")
ENCODE_ITEMS = 128  # between two steps of the progress bar


def evaluate(
    *,
    events: Path,
    catalog: Path,
    strategies: tuple[str, ...],
    limit: int | None,
    settings: Settings,
    console: Console,
    out: Path | None = None,
) -> dict[str, Any]:
    """Evaluate strategies one after another, each from the same start.

    Args:
        events: The log.
        catalog: The catalogue.
        strategies: Names; none: the default alone.
        limit: Most events; None: all.
        settings: All settings.
        console: Where progress and the table go.
        out: A folder for `evaluation.json`, `evaluation.md` and plots, written anew after every strategy; None: none.

    Returns:
        JSON-able: `strategies`, a report each (see `Comparison.add`), and `quality`, that of the first.

    Raises:
        LogFileError: A file cannot be read.
        UnknownStrategyError: There is no such strategy.
    """
    strategies = strategies or ("default",)
    for strategy in strategies:
        strategy_named(strategy)  # before anything is read
    log, shelf = event_log(events, limit=limit), catalog_file(catalog)
    items = [{name: getattr(item, name) for name in ITEM_FIELDS} for chunk in shelf for item in chunk]
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    encoder = open_encoder(settings.model.text_encoder, cache=settings.data_dir.absolute() / TEXT_VECTORS)
    config = learner_config(settings, text_width=encoder.width)
    _encode(items, encoder, console)
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        comparison = Comparison(items, encoder=encoder, config=config, seed=settings.seed, folder=Path(folder))
        for strategy in dict.fromkeys(strategies):
            with _bar(console) as bar:
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


def _encode(items: Sequence[Mapping[str, Any]], encoder: Encoder, console: Console) -> None:
    """Encode the catalogue ahead of the first round, which finds the vectors in the cache, and show how far it is."""
    names = ("title", "description", "category", "brand", "attributes")
    texts = [item_text(**{name: item[name] for name in names}) for item in items]
    with _bar(console) as bar:
        task = bar.add_task("item texts", total=len(texts))
        for start in range(0, len(texts), ENCODE_ITEMS):
            encoder.encode(texts[start : start + ENCODE_ITEMS])
            bar.update(task, completed=min(start + ENCODE_ITEMS, len(texts)))


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _advance(bar: Progress, task: TaskID, done: int) -> None:
    bar.update(task, completed=done)


def _table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("strategy", "expert", "hit rate@10", "NDCG@10", "MRR", title="prequential quality")
    for strategy, report in reports.items():
        for expert, figures in report["quality"].items():
            shown = (f"{figures[name]:.4f}" if name in figures else "-" for name in ("hit_rate_10", "ndcg_10", "mrr"))
            table.add_row(strategy, expert, *shown)
    return table
