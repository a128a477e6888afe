"""Feast's Postgres online store, mended, for everyone who reads and writes through Feast's public calls.

Feast 0.67 takes a connection from its pool and gives it back only if nothing went wrong: a few errors starve the
pool, and its single shared connection stays broken for good. The fast path of Alluvium's own worker is
`feature_store.tables`.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from feast import Entity, FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig
from feast.infra.utils.postgres.connection_utils import _get_conn, _get_conn_async
from feast.infra.utils.postgres.connection_utils import _get_connection_pool as new_pool
from feast.infra.utils.postgres.connection_utils import _get_connection_pool_async as new_pool_async
from feast.infra.utils.postgres.postgres_config import ConnectionType
from feast.repo_config import RepoConfig
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool

# Rows are rewritten all the time and never change their key: with free space on the page an update touches no index.
_STORAGE = sql.SQL(
    "ALTER TABLE {} SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 1)"
)


class AlluviumPostgreSQLOnlineStoreConfig(PostgreSQLOnlineStoreConfig):
    """Feast's configuration of the Postgres store, under the type that names our class."""

    type: str = "feature_store.online.AlluviumPostgreSQLOnlineStore"


class AlluviumPostgreSQLOnlineStore(PostgreSQLOnlineStore):
    """Feast's Postgres online store; connections always come back clean, and tables are laid out for updates."""

    _conn: psycopg.Connection | None
    _conn_pool: ConnectionPool | None
    _conn_async: psycopg.AsyncConnection | None
    _conn_pool_async: AsyncConnectionPool | None

    @contextmanager
    def _get_conn(self, config: RepoConfig, autocommit: bool = False) -> Iterator[psycopg.Connection]:  # noqa: FBT001, FBT002
        if config.online_store.conn_type != ConnectionType.pool:
            if self._conn is None or self._conn.closed:
                self._conn = _get_conn(config.online_store)
            self._conn.set_autocommit(autocommit)
            try:
                yield self._conn
            finally:
                _rolled_back(self._conn)
            return
        if self._conn_pool is None:
            pool = new_pool(config.online_store)
            pool.open()
            self._conn_pool = pool
        connection = self._conn_pool.getconn()
        try:
            connection.set_autocommit(autocommit)
            yield connection
        finally:
            _rolled_back(connection)
            self._conn_pool.putconn(connection)  # which replaces a connection that is closed

    @asynccontextmanager
    async def _get_conn_async(
        self,
        config: RepoConfig,
        autocommit: bool = False,  # noqa: FBT001, FBT002
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        if config.online_store.conn_type != ConnectionType.pool:
            if self._conn_async is None or self._conn_async.closed:
                self._conn_async = await _get_conn_async(config.online_store)
            await self._conn_async.set_autocommit(autocommit)
            try:
                yield self._conn_async
            finally:
                if not self._conn_async.closed:
                    await self._conn_async.rollback()
            return
        if self._conn_pool_async is None:
            pool = await new_pool_async(config.online_store)
            await pool.open()
            self._conn_pool_async = pool
        connection = await self._conn_pool_async.getconn()
        try:
            await connection.set_autocommit(autocommit)
            yield connection
        finally:
            if not connection.closed:
                await connection.rollback()
            await self._conn_pool_async.putconn(connection)

    def update(  # noqa: PLR0917 - the signature is Feast's
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,  # noqa: FBT001
    ) -> None:
        """Create and drop tables as Feast does, set their storage, drop the index that the primary key makes idle."""
        super().update(config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial)
        versioning = config.registry.enable_online_feature_view_versioning
        with self._get_conn(config) as connection, connection.cursor() as cursor:
            for table in tables_to_keep:
                name = compute_table_id(config.project, table, versioning)
                cursor.execute(_STORAGE.format(sql.Identifier(name)))
                cursor.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(f"{name}_ek")))
            connection.commit()

    async def close(self) -> None:
        """Close every connection; what Feast's own `FeatureStore.close` awaits."""
        self.disconnect()
        if self._conn_pool_async is not None:
            await self._conn_pool_async.close()
            self._conn_pool_async = None
        if self._conn_async is not None:
            await self._conn_async.close()
            self._conn_async = None

    def disconnect(self) -> None:
        """Close every connection that was opened by blocking calls."""
        if self._conn_pool is not None:
            self._conn_pool.close()
            self._conn_pool = None
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def _rolled_back(connection: psycopg.Connection[Any]) -> None:
    """End a transaction that is still open, which is so only after an error; a broken connection is closed."""
    if connection.closed:
        return
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()
