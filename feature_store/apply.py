"""`features apply`: what must exist in Postgres before anything is written, Feast's definitions and our own tables."""

import warnings
from pathlib import Path
from typing import Any

import psycopg
from feast import FeatureStore
from psycopg import sql

from feature_store import ledger
from feature_store.connection import checked_project, connect, feast_config, translated
from feature_store.repo.definitions import USER_ACTIVITY, Definitions, define
from feature_store.repo.services import feature_services
from feature_store.repo.unpack import unpacking_views

APPLY_LOCK = 4_711_064_924  # advisory lock
FILL_PERCENT = 50  # of a page of features, filled by new rows; Postgres' default is 100
DEFAULT_HISTORY_DIR = Path("alluvium-data/history")


def open_store(*, postgres_url: str, project: str = "alluvium") -> FeatureStore:
    """Open Feast's public `FeatureStore`, for readers and tools.

    Args:
        postgres_url: Database of the online store and the registry; `apply` has run on it.
        project: Feast project.
    """
    with translated():
        return FeatureStore(config=feast_config(postgres_url=postgres_url, project=project))


def close_store(store: FeatureStore) -> None:
    """Close the connections behind a store that `open_store` gave."""
    online: Any = store._get_provider().online_store  # noqa: SLF001 - Feast has no public way to close a store
    online.disconnect()
    registry: Any = store.registry
    registry.write_engine.dispose()


def apply(*, postgres_url: str, project: str = "alluvium", history_dir: Path = DEFAULT_HISTORY_DIR) -> list[str]:
    """Register every definition with Feast and create the tables; doing it again changes nothing.

    Args:
        postgres_url: Database of the online store and the registry.
        project: Feast project, which begins the tables' names; a lower-case identifier.
        history_dir: Folder of the point-in-time history; one folder per view is made in it.

    Returns:
        The names of what is registered, for people to read.

    Raises:
        StoreUnavailableError: If Postgres does not answer.
    """
    project = checked_project(project)
    history_dir = history_dir.absolute()
    definitions = define(history_dir=history_dir)
    for view in definitions.views:
        (history_dir / view.name).mkdir(parents=True, exist_ok=True)
    with translated(), connect(postgres_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (APPLY_LOCK,))  # processes that start together take turns
        return _register(connection, definitions, postgres_url=postgres_url, project=project)


def _register(
    connection: psycopg.Connection[Any], definitions: Definitions, *, postgres_url: str, project: str
) -> list[str]:
    unpacking = unpacking_views(definitions)
    config = feast_config(postgres_url=postgres_url, project=project, create_registry=True)
    store = FeatureStore(config=config)
    try:
        services = feature_services(definitions, unpacking)
        with warnings.catch_warnings():
            # Feast warns of slow offline retrieval through on-demand views; ours are for online readers.
            warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
            store.apply([*definitions.entities, *definitions.push_sources, *definitions.views, *unpacking, *services])
    finally:
        close_store(store)
    for view in definitions.views:
        table = sql.Identifier(f"{project}_{view.name}")
        # Rows are rewritten again and again: with room on their page an update leaves the indexes alone (HOT).
        connection.execute(sql.SQL("ALTER TABLE {} SET (fillfactor = {})").format(table, sql.Literal(FILL_PERCENT)))
    ledger.create_tables(connection, project=project)
    return [view.name for view in (*definitions.views, *unpacking)] + [service.name for service in services]


def drop(*, postgres_url: str, project: str = "alluvium") -> None:
    """Drop the tables and the definitions of `project`; the Parquet history stays."""
    project = checked_project(project)
    store = FeatureStore(config=feast_config(postgres_url=postgres_url, project=project, create_registry=True))
    try:
        # Not store.teardown(), which empties the registry of every project in the database.
        views = store.list_feature_views()
        store._get_provider().teardown_infra(project, views, store.list_entities())  # noqa: SLF001 - has no public name
        if any(known.name == project for known in store.registry.list_projects()):
            store.registry.delete_project(project, commit=True)
    finally:
        close_store(store)
    with translated(), connect(postgres_url) as connection:
        ledger.drop_tables(connection, project=project)


def is_applied(*, postgres_url: str, project: str = "alluvium") -> bool:
    """Tell whether `apply` has run on this database; for `doctor`."""
    with translated(), connect(postgres_url) as connection:
        names = [f"{project}_{USER_ACTIVITY}", f"{project}_ledger"]
        query = sql.SQL("SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) AS name")
        row = connection.execute(query, (names,)).fetchone()
        return bool(row and row[0])


__all__ = ["DEFAULT_HISTORY_DIR", "Definitions", "apply", "close_store", "drop", "is_applied", "open_store"]
