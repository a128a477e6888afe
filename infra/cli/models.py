"""`alluvium models`: which releases there are, which one serves, and changing that by hand."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import options
from infra.settings import Settings

if TYPE_CHECKING:
    from learners.releases.registry import Registry, ReleaseRecord

app = typer.Typer(help="Releases: list, show, promote, roll back.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(help="The release's number.", min=1)]


@app.command("list")
def list_releases(*, postgres_url: options.PostgresUrl = None, data_dir: options.DataDir = None) -> None:
    """List releases and rollbacks, oldest first; the last row serves."""
    records = _registry(options.read(postgres_url=postgres_url, data_dir=data_dir)).list()
    table = Table("sequence", "version", "kind", "parent", "released", "NDCG@10", "on Kafka")
    for record in records:
        table.add_row(
            str(record.sequence),
            str(record.version),
            record.kind,
            "-" if record.parent is None else str(record.parent),
            datetime.fromtimestamp(record.released_at_ms / 1000, tz=UTC).isoformat(timespec="seconds"),
            _ndcg(record),
            "yes" if record.published else "not yet",
        )
    Console().print(table)


@app.command("show")
def show(version: Version, *, postgres_url: options.PostgresUrl = None, data_dir: options.DataDir = None) -> None:
    """Print all that is known of a release, as JSON."""
    record = _registry(options.read(postgres_url=postgres_url, data_dir=data_dir)).show(version)
    typer.echo(json.dumps(asdict(record), indent=2, default=str))


@app.command("promote")
def promote(
    version: Version,
    *,
    postgres_url: options.PostgresUrl = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Make a release serve, whichever serves now."""
    settings = options.read(postgres_url=postgres_url, bootstrap_servers=bootstrap_servers, data_dir=data_dir)
    options.required_kafka(settings)
    registry = _registry(settings)
    _announce(settings, registry, registry.promote(version))


@app.command("rollback")
def rollback(
    *,
    to: Annotated[
        int | None, typer.Option("--to", help="Version to return to; without: the one before.", min=1)
    ] = None,
    postgres_url: options.PostgresUrl = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Return to an earlier release."""
    settings = options.read(postgres_url=postgres_url, bootstrap_servers=bootstrap_servers, data_dir=data_dir)
    options.required_kafka(settings)
    registry = _registry(settings)
    _announce(settings, registry, registry.rollback(to_version=to, reason={"by_hand": True}))


def _registry(settings: Settings) -> "Registry":
    from learners.releases.registry import Registry

    registry = Registry(postgres_url=options.required_postgres(settings), root=settings.data_dir / options.MODELS_DIR)
    registry.create()
    return registry


def _announce(settings: Settings, registry: "Registry", record: "ReleaseRecord") -> None:
    """Tell every worker: send what the topic does not have yet, this record included."""
    from infra.deployment import kafka_connection
    from streams.learning.releasing import wire
    from streams.publisher import Publisher
    from streams.topics import MODELS_RELEASES

    async def send(records: Iterable["ReleaseRecord"]) -> None:
        async with Publisher(connection=kafka_connection(settings)) as publisher:
            for waiting in records:
                await publisher.send_keyed(MODELS_RELEASES, [wire(waiting)])
                registry.mark_published(waiting.sequence)

    asyncio.run(send(registry.unpublished()))
    typer.echo(f"version {record.version} serves from sequence {record.sequence} on")


def _ndcg(record: "ReleaseRecord") -> str:
    figures = [value for name, value in record.metrics.items() if name.endswith("ndcg_10")]
    return f"{figures[0]:.4f}" if figures else "-"
