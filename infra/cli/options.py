"""The options that several commands share, and the settings they lead to."""

from pathlib import Path
from typing import Annotated, Any

import typer

from infra import logs
from infra.errors import SettingsError
from infra.settings import Settings, load_settings

BootstrapServers = Annotated[
    str | None, typer.Option("--bootstrap-servers", metavar="HOST:PORT,...", help="Kafka; without: embedded.")
]
PostgresUrl = Annotated[str | None, typer.Option("--postgres-url", metavar="URL", help="Postgres; without: embedded.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Logs, releases, checkpoints, history.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Where every random choice begins.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="R.json", help="Write the report here, as JSON.", dir_okay=False, writable=True),
]
MODELS_DIR = "models"  # under the data folder: version directories and the pointer
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


def read(
    *,
    bootstrap_servers: str | None = None,
    postgres_url: str | None = None,
    data_dir: Path | None = None,
    seed: int | None = None,
    calm: bool = False,
    **groups: Any,
) -> Settings:
    """Read the settings, options before environment, and send logs where they belong.

    Args:
        bootstrap_servers: As `kafka.bootstrap_servers`.
        postgres_url: As `postgres.url`.
        data_dir: The same.
        seed: The same.
        calm: This process logs warnings only, because people watch its progress; processes it starts log as set.
        groups: Further groups of settings, as dicts.

    Raises:
        SettingsError: If a setting is wrong.
    """
    settings = load_settings(
        kafka={"bootstrap_servers": bootstrap_servers},
        postgres={"url": postgres_url},
        data_dir=data_dir,
        seed=seed,
        **groups,
    )
    calmer = "warning" if calm and settings.log_level in {"debug", "info"} else settings.log_level
    logs.configure(level=calmer, form=settings.log_format)
    return settings


def required_kafka(settings: Settings) -> str:
    """The brokers' addresses.

    Raises:
        SettingsError: If there are none: an embedded broker would be gone when the command ends.
    """
    if settings.kafka.bootstrap_servers is None:
        raise _missing("ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS", "host:port", "--bootstrap-servers")
    return settings.kafka.bootstrap_servers


def required_postgres(settings: Settings) -> str:
    """The database's URL.

    Raises:
        SettingsError: If there is none.
    """
    if settings.postgres.url is None:
        raise _missing("ALLUVIUM_POSTGRES__URL", "postgresql://user:password@host/database", "--postgres-url")
    return settings.postgres.url.get_secret_value()


def _missing(variable: str, expected: str, option: str) -> SettingsError:
    return SettingsError(f"{variable} is missing; expected {expected}, or {option}")
