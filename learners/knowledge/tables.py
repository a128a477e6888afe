"""The store's tables in Postgres, and the connections to them. Readers see rows, and only rows make knowledge readable.

`knowledge_entries` holds the entries; `knowledge_vectors` what is searched by similarity inside them (derived from the
artifact, in the same transaction); `knowledge_artifacts` which addresses this store ever wrote to, noted before it did;
`knowledge_replaced` which entry took the place of one that was redacted; `knowledge_erasures` who asked to be
forgotten.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from learners.knowledge.contents import KeyedVectors
from learners.knowledge.entry import Entry, Lineage
from learners.knowledge.errors import (
    KnowledgeNotFoundError,
    KnowledgeRefusedError,
    KnowledgeUnavailableError,
    VectorExtensionError,
)

Connection = psycopg.Connection[dict[str, Any]]
_RETRY_AFTER_S = 5.0
_LOCK = 7_235_419_011  # any constant of our own: writers share it; whoever removes artifacts has it alone

_TABLES = """
CREATE TABLE IF NOT EXISTS knowledge_entries (
    entry_id text PRIMARY KEY,
    kind text NOT NULL,
    privacy text NOT NULL CHECK (privacy IN ('public', 'shop', 'personal')),
    task text NOT NULL,
    model text NOT NULL,
    model_version bigint,
    offsets jsonb NOT NULL,
    parents text[] NOT NULL,
    replaces text,
    notes jsonb NOT NULL,
    worth jsonb NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    embedding vector
);
CREATE INDEX IF NOT EXISTS knowledge_entries_sha256 ON knowledge_entries (sha256);
CREATE TABLE IF NOT EXISTS knowledge_vectors (
    entry_id text NOT NULL REFERENCES knowledge_entries ON DELETE CASCADE,
    key text NOT NULL,
    vector vector NOT NULL,
    PRIMARY KEY (entry_id, key)
);
CREATE TABLE IF NOT EXISTS knowledge_artifacts (
    sha256 text PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS knowledge_replaced (
    entry_id text PRIMARY KEY,
    replaced_by text NOT NULL
);
CREATE TABLE IF NOT EXISTS knowledge_erasures (
    user_id text PRIMARY KEY,
    requested_at_ms bigint NOT NULL
);
"""
_INSERT = """
INSERT INTO knowledge_entries (entry_id, kind, privacy, task, model, model_version, offsets, parents, replaces, notes,
                               worth, sha256, size_bytes, created_at_ms, embedding)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::vector)
ON CONFLICT (entry_id) DO NOTHING
"""


@contextmanager
def connect(postgres_url: str) -> Iterator[Connection]:
    """A connection of the caller's own; each statement commits unless it is within `connection.transaction()`.

    Raises:
        KnowledgeUnavailableError: If Postgres does not answer.
        KnowledgeRefusedError: If it refuses a statement.
    """
    try:
        with psycopg.connect(postgres_url, row_factory=dict_row, connect_timeout=10, autocommit=True) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise KnowledgeUnavailableError(cause=str(error).strip(), retry_after_s=_RETRY_AFTER_S) from error
    except psycopg.Error as error:
        raise KnowledgeRefusedError(cause=" ".join(str(error).split())) from error


@contextmanager
def writing(postgres_url: str) -> Iterator[Connection]:
    """A connection that keeps those out who remove artifacts, until it is closed, also by a kill."""
    with connect(postgres_url) as connection:
        connection.execute("SELECT pg_advisory_lock_shared(%s)", (_LOCK,))
        yield connection


@contextmanager
def removing(postgres_url: str) -> Iterator[Connection]:
    """A connection that keeps every writer out, until it is closed: what no row names now is nobody's."""
    with connect(postgres_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        yield connection


def create(connection: Connection) -> None:
    """Create what is missing; the caller holds the lock alone.

    Raises:
        VectorExtensionError: If pgvector is not to be had.
    """
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise VectorExtensionError(cause=str(error).strip()) from error
    connection.execute(_TABLES)


def insert(connection: Connection, entry: Entry, vectors: KeyedVectors | None) -> bool:
    """Write one row and the vectors inside its artifact; False if it was there already."""
    lineage = entry.lineage
    values = (
        entry.entry_id,
        entry.kind,
        entry.privacy,
        lineage.task,
        lineage.model,
        lineage.model_version,
        Jsonb(dict(lineage.offsets)),
        list(lineage.parents),
        lineage.replaces,
        Jsonb(dict(lineage.notes)),
        Jsonb(dict(entry.worth)),
        entry.sha256,
        entry.size_bytes,
        entry.created_at_ms,
        as_vector(entry.embedding) if entry.embedding else None,
    )
    if connection.execute(_INSERT, values).rowcount == 0:
        return False
    if vectors is not None and len(vectors.keys):
        columns: LiteralString = "COPY knowledge_vectors (entry_id, key, vector) FROM STDIN (FORMAT BINARY)"
        with connection.cursor() as cursor, cursor.copy(columns) as copy:
            for block in binary_rows(entry.entry_id, vectors):
                copy.write(block)
    return True


def binary_rows(entry_id: str, vectors: KeyedVectors, *, at_once: int = 1_000) -> Iterator[bytes]:
    """Yield rows of `knowledge_vectors` as binary COPY wants them; as text 100,000 vectors took nine times as long.

    Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format", and `vector_recv` of pgvector:
        dimensions, an unused half word, then the numbers, big-endian.
    """
    yield b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    width = vectors.vectors.shape[1]
    numbers = vectors.vectors.astype(">f4").tobytes()
    size = 4 * width
    before, after = struct.pack(">hi", 3, len(entry_id)) + entry_id.encode(), struct.pack(">ihh", 4 + size, width, 0)
    rows = []
    for number, key in enumerate(vectors.keys):
        name = key.encode()
        vector = numbers[number * size : (number + 1) * size]
        rows.append(b"".join((before, struct.pack(">i", len(name)), name, after, vector)))
        if len(rows) == at_once:
            yield b"".join(rows)
            rows.clear()
    yield b"".join(rows) + struct.pack(">h", -1)


def select(
    connection: Connection, rest: LiteralString = "", parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> list[Entry]:
    """Return entries; `rest` begins with WHERE or ORDER BY."""
    columns = "entry_id, kind, privacy, task, model, model_version, offsets, parents, replaces, notes, worth, sha256"
    query = f"SELECT {columns}, size_bytes, created_at_ms, embedding::float4[] FROM knowledge_entries {rest}"  # noqa: S608 - literals
    return [_entry(row) for row in connection.execute(query, parameters)]


def one(connection: Connection, entry_id: str) -> Entry:
    """Return the entry of an id or of the beginning of one, following what took the place of a redacted entry.

    Raises:
        KnowledgeNotFoundError: If there is none, or several begin so.
    """
    if not re.fullmatch(r"[0-9a-f]{1,64}", entry_id):
        raise KnowledgeNotFoundError(entry_id=entry_id, detail="an id is 64 hexadecimal digits, or the first of them")
    found = select(connection, "WHERE entry_id LIKE %s ORDER BY entry_id LIMIT 2", (f"{entry_id}%",))
    if len(found) == 1:
        return found[0]
    if found:
        raise KnowledgeNotFoundError(entry_id=entry_id, detail="more than one begins with it")
    query = "SELECT replaced_by FROM knowledge_replaced WHERE entry_id LIKE %s LIMIT 2"
    replaced = connection.execute(query, (f"{entry_id}%",)).fetchall()
    if len(replaced) == 1:
        return one(connection, replaced[0]["replaced_by"])
    raise KnowledgeNotFoundError(entry_id=entry_id)


def delete(connection: Connection, entry_ids: Iterable[str]) -> None:
    """Remove rows and the vectors that belong to them."""
    connection.execute("DELETE FROM knowledge_entries WHERE entry_id = ANY(%s)", (list(entry_ids),))


def claim(connection: Connection, address: str) -> None:
    """Note, before an artifact is written, that it is this store's: only such may a sweep ever remove."""
    connection.execute("INSERT INTO knowledge_artifacts VALUES (%s) ON CONFLICT DO NOTHING", (address,))


def claims(connection: Connection) -> dict[str, bool]:
    """Return the addresses that this store wrote to, or was about to, and whether a row names them."""
    rows = connection.execute(
        "SELECT sha256, EXISTS (SELECT FROM knowledge_entries AS entry WHERE entry.sha256 = claimed.sha256) AS named "
        "FROM knowledge_artifacts AS claimed"
    )
    return {row["sha256"]: row["named"] for row in rows}


def disclaim(connection: Connection, addresses: Iterable[str]) -> None:
    """Note that nothing of this store lies at these addresses any more."""
    connection.execute("DELETE FROM knowledge_artifacts WHERE sha256 = ANY(%s)", (list(addresses),))


def erasures(connection: Connection) -> dict[str, int]:
    """Return until when (ms) each person is forgotten."""
    rows = connection.execute("SELECT user_id, requested_at_ms FROM knowledge_erasures")
    return {row["user_id"]: row["requested_at_ms"] for row in rows}


def remember_erasure(connection: Connection, user_id: str, requested_at_ms: int) -> None:
    """Note that a person is forgotten up to a time (ms)."""
    connection.execute(
        """INSERT INTO knowledge_erasures (user_id, requested_at_ms) VALUES (%s, %s)
           ON CONFLICT (user_id) DO UPDATE SET requested_at_ms = EXCLUDED.requested_at_ms""",
        (user_id, requested_at_ms),
    )


def remember_replacement(connection: Connection, entry_id: str, replaced_by: str) -> None:
    """Note which entry took the place of a redacted one, so that its id goes on leading somewhere."""
    connection.execute(
        """INSERT INTO knowledge_replaced (entry_id, replaced_by) VALUES (%s, %s)
           ON CONFLICT (entry_id) DO UPDATE SET replaced_by = EXCLUDED.replaced_by""",
        (entry_id, replaced_by),
    )


def as_vector(numbers: Iterable[float]) -> str:
    """Write numbers as pgvector reads them.

    >>> as_vector([1.0, 0.5])
    '[1.0,0.5]'
    """
    return f"[{','.join(map(repr, numbers))}]"


def _entry(row: dict[str, Any]) -> Entry:
    """Build the entry of a row: what Postgres holds was checked when it went in."""
    lineage = Lineage(
        task=row["task"],
        model=row["model"],
        model_version=row["model_version"],
        offsets=row["offsets"],
        parents=tuple(row["parents"]),
        replaces=row["replaces"],
        notes=row["notes"],
    )
    kept = ("entry_id", "kind", "privacy", "sha256", "size_bytes", "created_at_ms")
    return Entry(
        lineage=lineage,
        worth={name: float(value) for name, value in row["worth"].items()},
        embedding=tuple(np.array(row["embedding"] or (), dtype=np.float32).tolist()),
        **{name: row[name] for name in kept},
    )
