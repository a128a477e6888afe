"""`alluvium knowledge reuse` and `share`: models made from what was kept, for a market that is there as files."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import options
from infra.errors import UsageError

ID_SHOWN = 12
EventsFile = Annotated[
    Path, typer.Argument(metavar="EVENTS", help="Parquet, CSV or JSONL: user_id, item_id, event_type, event_time, ...")
]
Catalog = Annotated[
    Path, typer.Option("--catalog", metavar="CATALOG", help="Parquet, CSV or JSONL: item_id, title, ...")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The release's directory; must not exist.")]


def reuse(
    events: EventsFile,
    *,
    catalog: Catalog,
    out: Out,
    donors: Annotated[
        int | None, typer.Option("--donors", min=0, max=20, help="Most entries tried; 0: from scratch.")
    ] = None,
    seed: options.Seed = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    report: options.Report = None,
) -> None:
    """Start a new market from what is kept: try the nearest entries and a start from scratch, train the best.

    Prints every candidate with the similarity of its task and its NDCG@10 in the trial, how far the winner is best
    trained, and the choice. Writes the release's directory. Exits with 1 if the gate refuses the model, with 2 if a
    file is missing or DIR is there.
    """
    for path, name in ((events, "EVENTS"), (catalog, "--catalog")):
        _existing(path, name)
    settings = options.read(
        postgres_url=postgres_url, data_dir=data_dir, seed=seed, calm=True, knowledge={"reuse": donors}
    )
    options.required_postgres(settings)
    from infra.knowledge_reuse import reuse as start_from_store

    found = start_from_store(events, catalog, out, settings, console=_progress())
    Console().print(_trials(found))
    if planned := found["start"]["planned"]:
        Console().print(_plans(planned))
    chosen = found["start"]["entry_id"]
    typer.echo(
        f"{'from scratch' if chosen is None else f'from {chosen[:ID_SHOWN]}'}: "
        f"newest NDCG@10 {found['metrics'].get('newest_ndcg_10', 0.0):.4f} on {found['judged_by']} events, "
        f"after {found['learned']}; release in {out}"
    )
    _write(report, found)


def privatize(
    events: EventsFile,
    *,
    catalog: Catalog,
    epsilon: Annotated[float, typer.Option("--epsilon", min=0.01, max=1_000, help="Most that may be spent.")] = 8.0,
    delta: Annotated[
        float, typer.Option("--delta", min=1e-12, max=0.1, help="Far below one over the number of people.")
    ] = 1e-5,
    clip: Annotated[float, typer.Option("--clip", min=1e-6, help="Longest change that one person asks for.")] = 0.5,
    steps: Annotated[int, typer.Option("--steps", min=1, max=100_000, help="Noisy steps.")] = 100,
    sample_rate: Annotated[
        float, typer.Option("--sample-rate", min=1e-6, max=1, help="Chance of each person in each step.")
    ] = 0.1,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Learn a trunk that may leave from a log, with differential privacy, and keep it.

    The unit of privacy is the person. Epsilon and delta are in the entry's lineage; `export --privacy dp` lets such
    entries leave and no others. Needs the extra `privacy`.
    """
    for path, name in ((events, "EVENTS"), (catalog, "--catalog")):
        _existing(path, name)
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir, calm=True)
    options.required_postgres(settings)
    from infra.knowledge_privacy import privatize as learn_privately
    from learners.knowledge.privacy import PrivacyConfig

    config = PrivacyConfig(epsilon=epsilon, delta=delta, clip=clip, steps=steps, sample_rate=sample_rate)
    entry = learn_privately(events, catalog, settings, config, console=_progress())
    notes = entry.lineage.notes
    typer.echo(
        f"{entry.entry_id[:ID_SHOWN]}: epsilon {notes['epsilon']} at delta {notes['delta']}, unit {notes['unit']}, "
        f"noise {notes['noise']}"
    )


def share(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Entries, archives or release directories; at least two models."),
    ],
    *,
    events: Annotated[
        list[Path], typer.Option("--events", metavar="EVENTS", help="A shop's log; once for each shop that is served.")
    ],
    catalog: Annotated[
        list[Path], typer.Option("--catalog", metavar="CATALOG", help="A catalogue; several together are one.")
    ],
    out: Out,
    method: Annotated[
        str, typer.Option("--method", help="uniform, weighted, soup, fisher, composition or distillation.")
    ] = "distillation",
    trusted: Annotated[
        Path | None, typer.Option("--trusted", metavar="PEM", help="Public key to believe archives by, or a folder.")
    ] = None,
    seed: options.Seed = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    report: options.Report = None,
) -> None:
    """Make one model of several.

    Of each log the newest fifth is held out: its older half chooses weights, its newer half measures the models and
    what became of them. An archive is imported first. Writes the release's directory. Exits with 1 if an entry,
    archive or model is damaged or does not fit, with 2 if a file is missing or DIR is there.
    """
    for path, name in [*((path, "--events") for path in events), *((path, "--catalog") for path in catalog)]:
        _existing(path, name)
    settings = options.read(
        postgres_url=postgres_url,
        data_dir=data_dir,
        seed=seed,
        calm=True,
        knowledge={"trusted_keys": None if trusted is None else str(trusted)},
    )
    from infra.knowledge_share import share_models
    from learners.knowledge.keys import load_trusted_keys
    from learners.knowledge.methods import METHODS

    if method not in METHODS:
        raise UsageError(f"--method is {method!r}; expected one of {', '.join(METHODS)}")
    keys = settings.knowledge.trusted_keys
    found = share_models(
        models,
        events=events,
        catalogs=catalog,
        method=method,
        out=out,
        settings=settings,
        trusted=() if keys is None else load_trusted_keys(keys),
        console=_progress(),
    )
    table = Table("model", *(path.name for path in events), "mean", title=f"NDCG@10, {method}")
    for name, figures in (*found["alone"].items(), ("fused", found["fused"])):
        table.add_row(name, *(f"{value:.4f}" for value in figures), f"{sum(figures) / len(figures):.4f}")
    Console().print(table)
    for name, value in found["chosen"].items():
        typer.echo(f"chosen on validation, {name}: {value}")
    typer.echo(f"release in {out}")
    _write(report, found)


def _trials(found: dict[str, Any]) -> Table:
    table = Table("start", "task", "similarity", "NDCG@10 in the trial", "")
    for trial in found["start"]["trials"]:
        entry_id, ndcg = trial["entry_id"], trial["ndcg_10"]
        table.add_row(
            "from scratch" if entry_id is None else entry_id[:ID_SHOWN],
            "-" if entry_id is None else found["tasks"][entry_id],
            "-" if trial["similarity"] is None else f"{trial['similarity']:.3f}",
            "-" if ndcg is None else f"{ndcg:.4f}",
            trial["refused"] or ("chosen" if entry_id == found["start"]["entry_id"] else ""),
        )
    return table


def _plans(planned: list[dict[str, Any]]) -> Table:
    table = Table("start", "epochs", "learning rate", "NDCG@10 in the trial")
    for plan in planned:
        start = "from scratch" if plan["entry_id"] is None else plan["entry_id"][:ID_SHOWN]
        table.add_row(start, str(plan["epochs"]), f"{plan['learning_rate']:g}", f"{plan['ndcg_10']:.4f}")
    return table


def _progress() -> Console:
    return Console(stderr=True)


def _existing(path: Path, name: str) -> None:
    if not path.is_file():
        raise UsageError(f"{name} is {str(path)!r}; expected a file")


def _write(report: Path | None, found: dict[str, Any]) -> None:
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
