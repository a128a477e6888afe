"""The replay's watch waits for a Postgres that does not answer for a moment, and gives up on one that does not."""

import asyncio

import psycopg
import pytest
from psycopg import sql

from feature_store.apply import apply
from feature_store.errors import StoreUnavailableError
from infra.replay import watch
from infra.replay.watch import Watch


def allow(server_url: str, database: str, *, connections: bool) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        answer = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(answer.format(sql.Identifier(database), sql.Literal(connections)))


def watching(url: str) -> Watch:
    return Watch(postgres_url=url, cluster_id="c", learner_url=None, worker_urls=(), round_interactions=1_000)


async def test_it_asks_again_until_postgres_answers(postgres_url: str, database_url: str) -> None:
    apply(postgres_url=database_url)
    database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    allow(postgres_url, database, connections=False)
    asked = asyncio.create_task(watching(database_url).ledger())
    await asyncio.sleep(0.3)
    assert not asked.done()
    allow(postgres_url, database, connections=True)
    assert await asyncio.wait_for(asked, 20) == {}


async def test_it_gives_up_on_a_postgres_that_stays_away(
    postgres_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STORE_PATIENCE_S", 0.0)
    database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    allow(postgres_url, database, connections=False)
    with pytest.raises(StoreUnavailableError):
        await watching(database_url).ledger()
