"""`alluvium topics`, `features`, `erase` and `doctor`: preparing and looking after an installation."""

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import options
from infra.errors import UsageError
from infra.settings import Settings

if TYPE_CHECKING:
    from streams.clients import KafkaConnection

topics_app = typer.Typer(help="Topics: create them, check them.", no_args_is_help=True)
features_app = typer.Typer(help="Features: create their tables.", no_args_is_help=True)

Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="Keep trying that long: it may be starting.")
]


@topics_app.command("apply")
def apply_topics(*, bootstrap_servers: options.BootstrapServers = None, wait: Wait = 0) -> None:
    """Create the topics that are missing, then check them all."""
    settings = options.read(bootstrap_servers=bootstrap_servers)
    from streams import admin

    connection = _reachable(settings, wait)
    created = admin.apply(
        connection, partitions=settings.kafka.partitions, replication_factor=settings.kafka.replication_factor
    )
    typer.echo(f"created {len(created)} topics; all are as declared")


@topics_app.command("verify")
def verify_topics(*, bootstrap_servers: options.BootstrapServers = None, wait: Wait = 0) -> None:
    """Check that every topic exists as it is declared; change nothing."""
    settings = options.read(bootstrap_servers=bootstrap_servers)
    from streams import admin
    from streams.errors import TopicMismatchError

    problems = admin.verify(
        _reachable(settings, wait),
        partitions=settings.kafka.partitions,
        replication_factor=settings.kafka.replication_factor,
    )
    if problems:
        raise TopicMismatchError(problems=problems)
    typer.echo("all topics are as declared")


@features_app.command("apply")
def apply_features(
    *, postgres_url: options.PostgresUrl = None, data_dir: options.DataDir = None, wait: Wait = 0
) -> None:
    """Create or update the feature tables, the ledger and Feast's registry."""
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir)
    url = options.required_postgres(settings)
    from feature_store.apply import apply
    from feature_store.errors import StoreUnavailableError

    history_dir = settings.data_dir.absolute() / "history"
    give_up_s = time.monotonic() + wait
    while True:
        try:
            names = apply(postgres_url=url, history_dir=history_dir)
        except StoreUnavailableError as error:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(error.retry_after_s)
        else:
            break
    typer.echo(f"applied {', '.join(names)}")


def erase(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The person's user_id.")],
    *,
    bootstrap_servers: options.BootstrapServers = None,
) -> None:
    """Forget a person: their events up to now, their features, and what learners keep of them."""
    settings = options.read(bootstrap_servers=bootstrap_servers)
    options.required_kafka(settings)
    import msgspec

    from infra.deployment import kafka_connection
    from streams.events import Erasure
    from streams.publisher import Publisher
    from streams.topics import USERS_ERASURES

    # a whole millisecond, and not before the newest event: event times are truncated to milliseconds
    now = datetime.fromtimestamp(math.ceil(time.time() * 1000) / 1000, tz=UTC)
    request = msgspec.json.encode(Erasure(user_id=user_id, requested_at=now))
    try:
        msgspec.json.decode(request, type=Erasure)  # encoding checks no bounds
    except msgspec.ValidationError as error:
        raise UsageError(f"USER is {user_id!r}; expected a user_id ({error})") from None

    async def send() -> None:
        async with Publisher(connection=kafka_connection(settings)) as publisher:
            await publisher.send_keyed(USERS_ERASURES, [(user_id.encode(), request)])

    asyncio.run(send())
    typer.echo(f"requested: events of {user_id!r} up to {now.isoformat()} count as erased")


def doctor(
    *,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Look at this installation and say what is wrong and what to do about it."""
    settings = options.read(
        bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir, calm=True
    )
    from infra.doctor import examine

    findings = examine(settings)
    table = Table("check", "", "finding")
    signs = {"good": "[green]good[/]", "doubt": "[yellow]doubt[/]", "bad": "[red]bad[/]"}
    for finding in findings:
        table.add_row(finding.check, signs[finding.state], finding.text)
    Console().print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _reachable(settings: Settings, patience_s: float) -> "KafkaConnection":
    """The connection to Kafka, once a broker answers; a broker may be starting beside us."""
    options.required_kafka(settings)
    from infra.deployment import kafka_connection
    from streams.clients import cluster_id
    from streams.errors import KafkaUnavailableError

    connection = kafka_connection(settings)
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            asyncio.run(cluster_id(connection))
        except KafkaUnavailableError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(1.0)
        else:
            return connection
