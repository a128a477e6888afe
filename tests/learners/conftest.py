"""What every test of `learners` runs under."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
import torch
from psycopg import sql

from learners.knowledge import tables
from learners.knowledge.graph import KnowledgeGraph


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Train on one thread, as a round does by default: on toy sizes more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def knowledge_database(postgres_url: str) -> str:
    """A database with the tables of store and graph, one a session: to make one takes longer than most tests."""
    name = f"knowledge_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url = postgres_url.rsplit("/", 1)[0] + f"/{name}"
    with tables.removing(url) as connection:
        tables.create(connection)
    KnowledgeGraph(postgres_url=url).create()
    return url


@pytest.fixture
def knowledge_url(knowledge_database: str) -> Iterator[str]:
    """The same database, empty."""
    yield knowledge_database
    with psycopg.connect(knowledge_database, autocommit=True) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'knowledge%'").fetchall()
        names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in found)
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
