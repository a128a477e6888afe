"""How this package reaches Postgres: plain psycopg connections, and Feast's configuration for the same database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from feast.repo_config import RepoConfig
from psycopg import conninfo, sql

from feature_store.arrays import register
from feature_store.errors import FeatureSettingError, NotAppliedError, StoreUnavailableError

# Deadlocks and serialization failures leave nothing behind and pass by themselves, like a lost connection.
# So does the end of a session that idled in mid-transaction, which psycopg counts among internal errors.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.IdleInTransactionSessionTimeout)
ENTITY_KEY_VERSION = 3
_SSL_FILES = ("sslkey", "sslcert", "sslrootcert")

# A process that is stopped in the middle of a transaction must not hold its successor up, hence the timeouts. A flush
# looks up thousands of known keys: the planner, which cannot know how long an unnested parameter is, must not read
# whole tables for them.
_SESSION = (
    "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '30s'; SET jit = off; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off"
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors that pass into `StoreUnavailableError`, a missing table into `NotAppliedError`."""
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise NotAppliedError(what=str(error).partition("\n")[0]) from error
    except PASSING as error:
        raise StoreUnavailableError(reason=" ".join(str(error).split()) or type(error).__name__) from error


def connect(postgres_url: str, *, application: str = "alluvium-features") -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection for the fast path, in autocommit: a transaction is what says so.

    Raises:
        StoreUnavailableError: If Postgres does not answer.
    """
    with translated():
        connection = psycopg.connect(
            postgres_url,
            application_name=application,
            autocommit=True,
            connect_timeout=5,
            keepalives_idle=30,
            prepare_threshold=0,
        )
        try:
            connection.execute(_SESSION, prepare=False)
            register(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def checked_project(project: str) -> str:
    """Give `project` back if it can begin the names of tables and is one that Feast takes."""
    if not project.isidentifier() or not project.isascii() or not project.islower() or len(project) > 32:
        raise FeatureSettingError(
            setting="project", value=project, expected="a lower-case identifier of at most 32 characters"
        )
    return project


def own_table(project: str, name: str) -> sql.Identifier:
    """Name one of our own tables, beside Feast's `<project>_<view>`."""
    return sql.Identifier(f"{project}_{name}")


def feast_config(
    *, postgres_url: str, project: str, repo_path: Path | None = None, create_registry: bool = False
) -> RepoConfig:
    """Build Feast's configuration: our online store and the SQL registry, both in the database of `postgres_url`.

    Args:
        postgres_url: As libpq takes it, `postgresql://user:password@host:port/database?host=/socket/folder`.
        project: Feast project; begins the table names.
        repo_path: Folder that relative paths of sources start from.
        create_registry: Whether to create the registry's tables where they are missing.
    """
    given = conninfo.conninfo_to_dict(postgres_url)
    where = {
        "host": str(given.get("host") or "localhost"),
        "port": int(given.get("port") or 5432),
        "user": str(given.get("user") or "postgres"),
        "password": str(given.get("password") or ""),
        "database": str(given.get("dbname") or given.get("user") or "postgres"),
    }
    sslmode = str(given.get("sslmode") or "prefer")
    return RepoConfig(
        project=checked_project(project),
        provider="local",
        registry={
            "registry_type": "sql",
            "path": _sqlalchemy_url(where, {"sslmode": sslmode, **{k: given[k] for k in _SSL_FILES if k in given}}),
            "cache_ttl_seconds": 0,  # never expires by itself; definitions change with a deployment, which starts anew
            "schema_mode": "auto" if create_registry else "skip",
            "sqlalchemy_config_kwargs": {"echo": False, "pool_pre_ping": True},
        },
        online_store={
            "type": "feature_store.online.AlluviumPostgreSQLOnlineStore",
            "conn_type": "pool",
            "min_conn": 1,
            "max_conn": 10,
            "sslmode": sslmode,
            **{f"{name}_path": given.get(name) for name in _SSL_FILES},
            **where,
        },
        offline_store={"type": "dask"},
        entity_key_serialization_version=ENTITY_KEY_VERSION,
        repo_path=repo_path,
    )


def _sqlalchemy_url(where: dict[str, Any], ssl: dict[str, Any]) -> str:
    from sqlalchemy import URL  # noqa: PLC0415 - a second to import, and only Feast's registry needs it

    socket = where["host"].startswith("/")
    return URL.create(
        "postgresql+psycopg",
        username=where["user"],
        password=where["password"] or None,
        host=None if socket else where["host"],
        port=None if socket else where["port"],
        database=where["database"],
        query={"host": where["host"], "port": str(where["port"])} if socket else ssl,
    ).render_as_string(hide_password=False)
