"""A database with the features applied, once per session; each test writes under names of its own."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from feature_store.apply import apply


@dataclass(frozen=True, kw_only=True)
class Event:
    """The least that features need of an interaction."""

    user_id: str
    item_id: str
    event_type: str = "view"
    event_time_ms: int = 0
    event_id: str = ""


@pytest.fixture(scope="session")
def event() -> type[Event]:
    return Event


@pytest.fixture(scope="session")
def applied_template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database to copy: `apply` takes seconds, a copy a fraction of one."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE features_template")
    url = postgres_url.rsplit("/", 1)[0] + "/features_template"
    apply(postgres_url=url, history_dir=tmp_path_factory.mktemp("history"))
    return "features_template"


@pytest.fixture
def features_url(postgres_url: str, applied_template: str) -> Iterator[str]:
    """A fresh database with the features applied."""
    name = f"features_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(applied_template))
        )
        yield postgres_url.rsplit("/", 1)[0] + f"/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
