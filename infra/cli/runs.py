"""`alluvium demo`, `replay`, `evaluate` and `bench`: whole runs that end by themselves and leave a report."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli import options
from infra.errors import UsageError

EventsFile = Annotated[
    Path, typer.Argument(metavar="EVENTS", help="Parquet, CSV or JSONL: user_id, item_id, event_type, event_time, ...")
]
CatalogFile = Annotated[
    Path, typer.Option("--catalog", metavar="CATALOG", help="Parquet, CSV or JSONL: item_id, title, ...")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many events.")]
Encoding = Annotated[
    str | None, typer.Option("--encoding", metavar="NAME", help="Of CSV files, e.g. gb18030; without: UTF-8.")
]
MAX_SPEED = "max"


def demo(
    *,
    duration_s: Annotated[
        float, typer.Option("--duration", metavar="SECONDS", min=5, help="How long the shop is open.")
    ] = 200,
    seed: options.Seed = None,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """A simulated shop with planted drift drives the real system; ends with a report."""
    options.read(calm=True)  # the live view has the terminal
    from infra.demo.config import DemoConfig, demo_settings
    from infra.demo.run import run_demo
    from infra.demo.view import View

    settings = demo_settings(
        kafka={"bootstrap_servers": bootstrap_servers}, postgres={"url": postgres_url}, data_dir=data_dir, seed=seed
    )
    console = Console(quiet=quiet)
    found = run_demo(DemoConfig(duration_s=duration_s, seed=settings.seed), settings, view=View(console=console))
    _write(report, found)


def replay(
    events: EventsFile,
    catalog: CatalogFile,
    *,
    limit: Limit = None,
    encoding: Encoding = None,
    speed: Annotated[str, typer.Option("--speed", help="Events a second, or max.")] = MAX_SPEED,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Worker processes.")] = 1,
    kill_worker: Annotated[int, typer.Option("--kill-worker", min=0, help="kill -9 a worker so many times.")] = 0,
    kill_learner: Annotated[int, typer.Option("--kill-learner", min=0, help="kill -9 the learner so many times.")] = 0,
    learner: Annotated[bool, typer.Option("--learner/--no-learner", help="Whether a learner runs.")] = True,
    seed: options.Seed = None,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """Replay a real log through the whole running system and hold every count against it."""
    _existing(events, "EVENTS")
    _existing(catalog, "--catalog")
    events_per_s = _events_per_s(speed)
    settings = options.read(
        bootstrap_servers=bootstrap_servers,
        postgres_url=postgres_url,
        data_dir=data_dir,
        seed=seed,
        calm=True,
    )
    from infra.replay.options import ReplayOptions
    from infra.replay.run import replay as run_replay

    wanted = ReplayOptions(
        events=events,
        catalog=catalog,
        limit=limit,
        encoding=encoding,
        speed=events_per_s,
        worker_kills=kill_worker,
        learner_kills=kill_learner,
        workers=workers,
        learner=learner,
        seed=settings.seed,
    )
    found = run_replay(wanted, settings, console=Console(quiet=quiet, stderr=True))
    _write(report, found)
    if not found["ok"]:
        raise typer.Exit(1)


def evaluate(
    events: EventsFile,
    catalog: CatalogFile,
    *,
    strategy: Annotated[list[str] | None, typer.Option("--strategy", help="May be given several times.")] = None,
    limit: Limit = None,
    encoding: Encoding = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="JSON, a Markdown page and plots.")] = None,
    seed: options.Seed = None,
    data_dir: options.DataDir = None,
    report: options.Report = None,
    quiet: options.Quiet = False,
) -> None:
    """Prequential evaluation without Kafka, seeded: score each event before learning from it."""
    _existing(events, "EVENTS")
    _existing(catalog, "--catalog")
    settings = options.read(data_dir=data_dir, seed=seed, calm=True)
    from infra.evaluation import evaluate as run_evaluation

    found = run_evaluation(
        events=events,
        catalog=catalog,
        strategies=tuple(strategy or ()),
        limit=limit,
        encoding=encoding,
        settings=settings,
        console=Console(quiet=quiet, stderr=True),
        out=out,
    )
    _write(report, found)


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Which benchmark.")] = "ingest",
) -> None:
    """Run a benchmark; what follows its name is passed on, e.g. `--report F`."""
    known = benchmark_names()
    if name not in known:
        raise UsageError(f"NAME is {name!r}; expected one of {', '.join(known)}")
    importlib.import_module(f"benchmarks.{name}").main(context.args)


def benchmark_names() -> list[str]:
    """The modules of `benchmarks` that can be run.

    >>> "ingest" in benchmark_names(), "ingest_child" in benchmark_names()
    (True, False)
    """
    package = importlib.import_module("benchmarks")
    found = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)
    return sorted(name for name in found if not name.endswith("_child"))  # a process that a benchmark starts


def _events_per_s(speed: str) -> float | None:
    """Events a second; None: as fast as the system follows.

    >>> _events_per_s("max"), _events_per_s("2000")
    (None, 2000.0)
    """
    if speed == MAX_SPEED:
        return None
    try:
        events_per_s = float(speed)
    except ValueError:
        events_per_s = 0.0
    if not 0 < events_per_s < float("inf"):
        raise UsageError(f"--speed is {speed!r}; expected events a second above 0, or max")
    return events_per_s


def _existing(path: Path, name: str) -> None:
    if not path.is_file():
        raise UsageError(f"{name} is {str(path)!r}; expected a file that exists")


def _write(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
