"""The ledger: per consumed partition, how far its effects are in Postgres and what became of its records.

It is written in the same transaction as the features, so it says exactly which records they contain. Whatever is
redelivered below `next_offset` has had its effect. A flush that read another `next_offset` than it finds belongs to
an owner that was replaced.

Tables (prefix: the project): `ledger`, a row per cluster, topic and partition; `ledger_events`, the event_ids of each
flush within the deduplication window; `erasures`, who asked to be forgotten, and until when.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from feature_store import freshness
from feature_store.connection import own_table

# What can become of a record. `truncated` are those that the broker had dropped before they were read; they were
# never received. `foreign` says how many users' rows had been written by another partition; they are among the
# applied.
COUNTS = ("received", "applied", "rejected", "duplicate", "late", "erased", "truncated", "foreign")
ERASURE_LOCK = 4_711_064_923  # advisory lock: flushes share it, an erasure has it alone

_CREATE = """
CREATE TABLE IF NOT EXISTS {ledger} (
    cluster_id text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint,
    {counts},
    sources jsonb NOT NULL DEFAULT '{{}}',
    freshness bigint[] NOT NULL DEFAULT '{{}}',
    writer text,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, topic, partition)
) WITH (fillfactor = 40);
CREATE TABLE IF NOT EXISTS {events} (
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    cluster_id text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    event_count int NOT NULL,
    event_ids bytea NOT NULL,
    PRIMARY KEY (cluster_id, topic, partition, sequence)
);
ALTER TABLE {events} ALTER COLUMN event_ids SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS {erasures} (
    user_id text PRIMARY KEY,
    requested_at_ms bigint NOT NULL,
    sequence bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    erased_at timestamptz NOT NULL DEFAULT now()
);
"""
_SHARED = "SELECT pg_advisory_xact_lock_shared(%s)"
_ALONE = "SELECT pg_advisory_xact_lock(%s)"
_SEPARATOR = "\0"  # which no event_id contains (streams.events.Id)


def create_tables(connection: psycopg.Connection[Any], *, project: str) -> None:
    """Create the tables of this module where they are missing."""
    counts = sql.SQL(", ").join(
        sql.SQL("{} bigint NOT NULL DEFAULT 0").format(sql.Identifier(f"{name}_count")) for name in COUNTS
    )
    connection.execute(sql.SQL(_CREATE).format(counts=counts, **_identifiers(project)), prepare=False)


def drop_tables(connection: psycopg.Connection[Any], *, project: str) -> None:
    """Drop the tables of this module."""
    for table in _identifiers(project).values():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))


def _identifiers(project: str) -> dict[str, sql.Identifier]:
    return {
        "ledger": own_table(project, "ledger"),
        "events": own_table(project, "ledger_events"),
        "erasures": own_table(project, "erasures"),
    }


@dataclass(slots=True)
class Ledger:
    """One partition's row, and the event_ids that its owner has seen lately.

    Attributes:
        next_offset: First offset whose effects are not in Postgres; None before the first flush.
        counts: Records by outcome, keys `COUNTS`, since the partition was first read.
        sources: For `interactions.by_item`: by clickstream partition, the highest offset applied.
        freshness: Histogram of the ages of events when their features were written (`feature_store.freshness`).
        window: Most event_ids remembered.
        chunks: Of the event_ids stored with each flush, (sequence, number), oldest first.

    >>> ledger = Ledger(topic="clickstream.events", cluster_id="c", partition=0, window=2)
    >>> [ledger.admit(event_id) for event_id in ("a", "b", "a", "c", "a")]
    [True, True, False, True, True]
    """

    topic: str
    cluster_id: str
    partition: int
    window: int = 50_000
    next_offset: int | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    sources: dict[int, int] = field(default_factory=dict)
    freshness: list[int] = field(default_factory=lambda: [0] * freshness.BUCKETS)
    chunks: deque[tuple[int, int]] = field(default_factory=deque)
    _recent: deque[str] = field(default_factory=deque)
    _known: set[str] = field(default_factory=set)

    def seen(self, event_id: str) -> bool:
        """Tell whether `event_id` is among the last `window` that were admitted."""
        return event_id in self._known

    def admit(self, event_id: str) -> bool:
        """Remember `event_id`, forgetting the oldest beyond the window; False if it was known, a duplicate.

        Which ids are known depends on nothing but the order of those admitted, so a partition read again after a crash
        has the same duplicates.
        """
        known = self._known
        if event_id in known:
            return False
        known.add(event_id)
        self._recent.append(event_id)
        if len(self._recent) > self.window:
            known.discard(self._recent.popleft())
        return True

    def prunable(self) -> int | None:
        """Give the sequence up to which stored chunks lie wholly outside the window; None if none does."""
        kept = sum(count for _, count in self.chunks)
        last = None
        for sequence, count in self.chunks:
            kept -= count
            if kept < self.window:
                break
            last = sequence
        return last


class LedgerTable:
    """Reads and writes the tables of this module, on cursors of its caller's transactions.

    Args:
        project: Begins the tables' names.
        cluster_id: Identity of the Kafka cluster; a ledger of another cluster says nothing about this one's offsets.
        window: Most event_ids remembered per partition.
    """

    def __init__(self, *, project: str, cluster_id: str, window: int = 50_000) -> None:
        self.cluster_id, self.window = cluster_id, window
        tables = _identifiers(project)
        where = sql.SQL("WHERE cluster_id = %s AND topic = %s AND partition = %s")
        counts = sql.SQL(", ").join(sql.Identifier(f"{name}_count") for name in COUNTS)
        self._create = sql.SQL(
            "INSERT INTO {ledger} (cluster_id, topic, partition) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(**tables)
        self._read = sql.SQL("SELECT next_offset, sources, freshness, {} FROM {ledger} {} FOR UPDATE").format(
            counts, where, **tables
        )
        self._read_events = sql.SQL("SELECT sequence, event_ids FROM {events} {} ORDER BY sequence").format(
            where, **tables
        )
        self._lock = sql.SQL("SELECT next_offset, writer, xmin::text::bigint FROM {ledger} {} FOR UPDATE").format(
            where, **tables
        )
        self._write = sql.SQL(
            "UPDATE {ledger} SET next_offset = %s, sources = %s, freshness = %s, writer = %s, written_at = now(), {} "
            "{} RETURNING pg_current_xact_id()::xid::text::bigint"
        ).format(
            sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(f"{n}_count")) for n in COUNTS), where, **tables
        )
        self._append = sql.SQL(
            "INSERT INTO {events} (cluster_id, topic, partition, event_count, event_ids) VALUES (%s, %s, %s, %s, %b) "
            "RETURNING sequence"
        ).format(**tables)
        self._prune = sql.SQL("DELETE FROM {events} {} AND sequence <= %s").format(where, **tables)
        self._erasures_since = sql.SQL(
            "SELECT sequence, user_id, requested_at_ms FROM {erasures} WHERE sequence > %s ORDER BY sequence"
        ).format(**tables)
        self._erasures_of = sql.SQL("SELECT user_id, requested_at_ms FROM {erasures} WHERE user_id = ANY(%s)").format(
            **tables
        )
        self._last_erasure = sql.SQL("SELECT coalesce(max(sequence), 0) FROM {erasures}").format(**tables)
        self._erase = sql.SQL(
            "INSERT INTO {erasures} AS known (user_id, requested_at_ms) VALUES (%s, %s) "
            "ON CONFLICT (user_id) DO UPDATE "
            "SET requested_at_ms = EXCLUDED.requested_at_ms, sequence = DEFAULT, erased_at = now() "
            "WHERE known.requested_at_ms < EXCLUDED.requested_at_ms"
        ).format(**tables)

    def _key(self, topic: str, partition: int) -> tuple[str, str, int]:
        return self.cluster_id, topic, partition

    def open(self, cursor: psycopg.Cursor[Any], topic: str, partition: int) -> Ledger:
        """Read a partition's ledger; creates its row where there is none.

        Waits for a flush of the partition's last owner that is under way, and keeps it from another until the
        transaction ends.
        """
        key = self._key(topic, partition)
        cursor.execute(self._create, key)
        row = cursor.execute(self._read, key).fetchone()
        assert row is not None  # noqa: S101 - created above, in this transaction
        next_offset, sources, histogram, *counts = row
        ledger = Ledger(topic=topic, cluster_id=self.cluster_id, partition=partition, window=self.window)
        ledger.next_offset = next_offset
        ledger.sources = {int(source): int(offset) for source, offset in sources.items()}
        ledger.counts = dict(zip(COUNTS, counts, strict=True))
        if len(histogram) == freshness.BUCKETS:
            ledger.freshness = list(histogram)
        for sequence, packed in cursor.execute(self._read_events, key):
            event_ids = bytes(packed).decode().split(_SEPARATOR)
            ledger.chunks.append((sequence, len(event_ids)))
            for event_id in event_ids:
                ledger.admit(event_id)
        return ledger

    def lock(
        self, cursor: psycopg.Cursor[Any], ledger: Ledger, *, erasing: bool = False
    ) -> tuple[int | None, str | None, int] | None:
        """Lock the row until the transaction ends; gives next offset, last writer and its stamp, None without a row.

        Keeps erasures out as well, or, where this transaction is `erasing` itself, every other flush.
        """
        cursor.execute(_ALONE if erasing else _SHARED, (ERASURE_LOCK,))
        row = cursor.execute(self._lock, self._key(ledger.topic, ledger.partition)).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def append_events(self, cursor: psycopg.Cursor[Any], ledger: Ledger, event_ids: Sequence[str]) -> int:
        """Store the event_ids of one flush; gives their sequence."""
        packed = _SEPARATOR.join(event_ids).encode()
        key = self._key(ledger.topic, ledger.partition)
        row = cursor.execute(self._append, (*key, len(event_ids), packed)).fetchone()
        assert row is not None  # noqa: S101 - INSERT ... RETURNING gives a row
        return int(row[0])

    def prune(self, cursor: psycopg.Cursor[Any], ledger: Ledger, last: int) -> None:
        """Delete the stored chunks up to the sequence `last`."""
        cursor.execute(self._prune, (*self._key(ledger.topic, ledger.partition), last))

    def write(
        self,
        cursor: psycopg.Cursor[Any],
        ledger: Ledger,
        *,
        next_offset: int | None,
        counts: dict[str, int],
        sources: dict[int, int],
        histogram: Sequence[int],
        writer: str,
    ) -> int:
        """Write the row; gives the transaction's stamp."""
        sources_json = Jsonb({str(source): offset for source, offset in sources.items()})
        outcome = [counts[name] for name in COUNTS]
        key = self._key(ledger.topic, ledger.partition)
        row = cursor.execute(
            self._write, (next_offset, sources_json, list(histogram), writer, *outcome, *key)
        ).fetchone()
        assert row is not None  # noqa: S101 - the row is locked, it exists
        return int(row[0])

    def erasures_since(self, cursor: psycopg.Cursor[Any], sequence: int) -> list[tuple[int, str, int]]:
        """Give the erasures after `sequence`, as (sequence, user_id, requested_at_ms)."""
        return list(cursor.execute(self._erasures_since, (sequence,)))

    def erasures_of(self, cursor: psycopg.Cursor[Any], user_ids: Iterable[str]) -> dict[str, int]:
        """Give until when each of `user_ids` is erased; whoever never asked is left out."""
        return dict(cursor.execute(self._erasures_of, (list(user_ids),)).fetchall())

    def last_erasure(self, cursor: psycopg.Cursor[Any]) -> int:
        """Give the sequence of the newest erasure, 0 without any."""
        row = cursor.execute(self._last_erasure).fetchone()
        return int(row[0]) if row else 0

    def erase(self, cursor: psycopg.Cursor[Any], user_id: str, requested_at_ms: int) -> bool:
        """Record an erasure and wait for flushes under way; False if one as new is recorded already."""
        cursor.execute(_ALONE, (ERASURE_LOCK,))
        return cursor.execute(self._erase, (user_id, requested_at_ms)).rowcount == 1
