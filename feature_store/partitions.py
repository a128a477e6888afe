"""Partitions under one owner: their ledgers, their cached states, and the connection that both are written through."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self

import psycopg

from feature_store.cache import StateCache
from feature_store.connection import PASSING, checked_project, connect, translated
from feature_store.errors import (
    FeatureSettingError,
    NotAppliedError,
    NotLoadedError,
    NotOpenError,
    StoreUnavailableError,
)
from feature_store.history import History
from feature_store.ledger import Ledger, LedgerTable
from feature_store.rows import Codec, Described, State
from feature_store.tables import FeatureTables
from feature_store.transaction import FlushOutcome, FlushTransaction, Outcome, PartitionFlush, PreparedFlush, prepare


class PartitionedFeatures(Generic[State]):
    """What users' and items' features have in common. See `feature_store.flush` for the order of calls.

    Args:
        postgres_url: As libpq takes it; `feature_store.apply.apply` has run on it.
        project: Feast project.
        cluster_id: Identity of the Kafka cluster.
        capacity: Most states cached, over all partitions; at least 1.
        dedupe_window: Most event_ids remembered per partition; at least 1.
        codec: What is stored.
        owner_of: Gives the entity_id of an interaction.
        reapply: Applies one interaction to a state, or says why not.
        set_erased: Tells a state until when its person is erased; None where entities are not people.
        history_dir: Folder of the point-in-time history; None: none is written.
    """

    def __init__(
        self,
        *,
        postgres_url: str,
        project: str,
        cluster_id: str,
        capacity: int,
        dedupe_window: int,
        codec: Codec[State],
        owner_of: Callable[[Described], str],
        reapply: Callable[[State, Described], Outcome],
        set_erased: Callable[[State, int], None] | None,
        history_dir: Path | None,
    ) -> None:
        for setting, value in (("cache capacity", capacity), ("dedupe_window", dedupe_window)):
            if value < 1:
                raise FeatureSettingError(setting=setting, value=value, expected="at least 1")
        self._postgres_url = postgres_url
        self._capacity = capacity
        self._connection: psycopg.Connection[Any] | None = None
        self._reader: psycopg.Connection[Any] | None = None
        self._tables = FeatureTables(project=checked_project(project), codec=codec)
        self._ledgers = LedgerTable(project=project, cluster_id=cluster_id, window=dedupe_window)
        self._owner_of, self._set_erased = owner_of, set_erased
        self._history: History[State] | None = None
        if history_dir is not None:
            self._history = History(history_dir=history_dir, codec=codec, cluster_id=cluster_id)
        self._transaction = FlushTransaction(
            tables=self._tables,
            ledgers=self._ledgers,
            owner_of=owner_of,
            reapply=reapply,
            set_erased=set_erased,
            archive=None if self._history is None else self._history.append,
        )
        self._ledger_of: dict[int, Ledger] = {}
        self._cache_of: dict[int, StateCache[State]] = {}

    @contextmanager
    def _store(self) -> Iterator[psycopg.Connection[Any]]:
        """Give the connection; it is opened anew after it broke."""
        with translated():
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._postgres_url)
                    with self._connection.cursor() as cursor:
                        if missing := self._tables.missing(cursor):
                            raise NotAppliedError(what=f"table {missing[0]}")
                        if self._transaction.last_erasure is None:
                            self._transaction.last_erasure = self._ledgers.last_erasure(cursor)
                yield self._connection
            except PASSING:
                if self._connection is not None:
                    self._connection.close()
                raise

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        """Give the connection for reads, which so need not wait for a write; it is opened anew after it broke."""
        with translated():
            try:
                if self._reader is None or self._reader.closed:
                    self._reader = connect(self._postgres_url)
                yield self._reader
            except PASSING:
                if self._reader is not None:
                    self._reader.close()
                raise

    def open(self, topic: str, partition: int) -> Ledger:
        """Take ownership of a partition: read its ledger, creating it where there is none. Blocks.

        Raises:
            StoreUnavailableError: If Postgres does not answer.
            NotAppliedError: If `features apply` has not run.
        """
        with self._store() as connection, connection.transaction(), connection.cursor() as cursor:
            ledger = self._ledgers.open(cursor, topic, partition)
            if self._history is not None:
                self._history.open(topic, partition)  # while no other owner can be in mid-flush
        self._ledger_of[partition] = ledger
        self._cache_of[partition] = StateCache(capacity=1)
        self._share_out()
        return ledger

    def close(self, topic: str, partition: int) -> None:
        """Give a partition up: forget its ledger and states. Blocks while history parts are written."""
        if self._history is not None:
            self._history.close(topic, partition)
        self._ledger_of.pop(partition, None)
        self._cache_of.pop(partition, None)
        self._share_out()

    def close_all(self) -> None:
        """Give every partition up and close the connection. Blocks while history parts are written."""
        try:
            if self._history is not None:
                self._history.shut_down()
        finally:
            self._ledger_of.clear()
            self._cache_of.clear()
            for connection in (self._connection, self._reader):
                if connection is not None:
                    connection.close()
            self._connection = self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_all()

    def _share_out(self) -> None:
        for cache in self._cache_of.values():
            cache.capacity = max(1, self._capacity // len(self._cache_of))

    def ledger(self, partition: int) -> Ledger:
        """Give the ledger of an open partition."""
        try:
            return self._ledger_of[partition]
        except KeyError:
            raise NotOpenError(partition=partition) from None

    def _cache(self, partition: int) -> StateCache[State]:
        try:
            return self._cache_of[partition]
        except KeyError:
            raise NotOpenError(partition=partition) from None

    def missing(self, partition: int, entity_ids: Iterable[str]) -> list[str]:
        """Give those of `entity_ids` that must be loaded before events of theirs are applied. Does not block."""
        return self._cache(partition).missing(entity_ids)

    def read(self, entity_ids: Iterable[str]) -> dict[str, State]:
        """Read states from Postgres, past the cache; whoever was never seen gets an empty state. Blocks.

        Reads have a connection of their own: one thread may read while another writes. One that broke since it was
        last used is replaced, since a read can be repeated.

        Raises:
            StoreUnavailableError: If Postgres does not answer.
        """
        wanted = list(dict.fromkeys(entity_ids))
        used_before = self._reader is not None
        try:
            return self._read(wanted)
        except StoreUnavailableError:
            if not used_before:
                raise
        return self._read(wanted)

    def _read(self, wanted: list[str]) -> dict[str, State]:
        with self._reading() as connection, connection.transaction(), connection.cursor() as cursor:
            states = self._tables.read(cursor, wanted)
            if self._set_erased is not None and wanted:
                for entity_id, until_ms in self._ledgers.erasures_of(cursor, wanted).items():
                    self._set_erased(states[entity_id], until_ms)
        return states

    def put(self, partition: int, states: Mapping[str, State]) -> None:
        """Cache states that `read` gave. Does not block."""
        self._cache(partition).put(dict(states))

    def load(self, partition: int, entity_ids: Iterable[str]) -> None:
        """Cache the states of `entity_ids`, reading those that are not cached in one go. Blocks if any is missing."""
        if missing := self.missing(partition, entity_ids):
            self.put(partition, self.read(missing))

    def state(self, partition: int, entity_id: str) -> State | None:
        """Give a cached state; None if it is not loaded. Does not block."""
        return self._cache(partition).states.get(entity_id)

    def prepare(self, delta: PartitionFlush) -> PreparedFlush[State]:
        """Encode the rows of what `delta` touched, as they are now. Does not block; 10 to 20 us per entity."""
        ledger = self.ledger(delta.partition)
        states = self._cache(delta.partition).states
        owner_of = self._owner_of
        touched = {}
        for entity_id in dict.fromkeys([owner_of(interaction) for interaction in delta.applied]):
            if (state := states.get(entity_id)) is None:
                raise NotLoadedError(key=entity_id, partition=delta.partition)
            touched[entity_id] = state
        for event_id in delta.event_ids:  # no effect where the caller has admitted them already
            ledger.admit(event_id)
        archived = self._history is not None
        return prepare(delta=delta, ledger=ledger, touched=touched, codec=self._tables.codec, archived=archived)

    def write(self, prepared: PreparedFlush[State]) -> FlushOutcome:
        """Write a prepared flush and the ledger in one transaction. Blocks; flushes of a partition in their order.

        Raises:
            StaleLedgerError: If the partition has another owner; nothing was written. Close the partition.
            StoreUnavailableError: If Postgres went away; call again with the same object.
        """
        with self._store() as connection:
            outcome = self._transaction.write(connection, prepared)
        if self._history is not None:
            for user_id, requested_at_ms in prepared.delta.erasures:
                self._history.erase(user_id, requested_at_ms)
        return outcome

    def settle(self, prepared: PreparedFlush[State]) -> None:
        """Let the cache follow a flush that was written. Does not block."""
        cache = self._cache_of.get(prepared.delta.partition)
        if cache is None:
            return
        for index, fresh in prepared.fresh.items():
            entity_id, state = prepared.ids[index], prepared.states[index]
            # With newer events in it the old state stays; its old stamp makes the next flush read the row again.
            if cache.states.get(entity_id) is state and state.events == prepared.events[index]:
                cache.states[entity_id] = fresh

    def flush(self, delta: PartitionFlush) -> FlushOutcome:
        """Write what `delta` did in one transaction: `prepare`, `write` and `settle` in one call. Blocks.

        Raises:
            StaleLedgerError: If the partition has another owner; nothing was written. Close the partition.
            StoreUnavailableError: If Postgres went away; call again with the same delta.
        """
        prepared = self.prepare(delta)
        outcome = self.write(prepared)
        self.settle(prepared)
        return outcome
