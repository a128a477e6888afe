"""The knowledge store: metadata in Postgres, artifacts behind fsspec, whole or not readable at all.

A deposit writes the artifact under a temporary name, makes it durable, renames it to its SHA-256, and then inserts the
entry in ONE transaction. Only the row makes it readable: a kill before it leaves bytes that nobody finds, which the
next `sweep` removes. Writers hold a lock together; whoever removes artifacts holds it alone, so a sweep cannot meet a
deposit half done. Every read proves the bytes against the entry's SHA-256.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from learners.disk import sha256_of
from learners.knowledge import contents, tables
from learners.knowledge.artifacts import ArtifactStore, address_in
from learners.knowledge.entry import ABOUT_PEOPLE, Entry, Kind, Lineage, Privacy, describe
from learners.knowledge.errors import CorruptKnowledgeError, KnowledgeNotFoundError

_SEARCHED = frozenset({"prototypes", "item_embeddings"})  # vectors inside are found by similarity; people's never are


@dataclass(frozen=True, slots=True)
class Match:
    """An entry and how alike its task is: cosine, 1 for the same direction."""

    entry: Entry
    similarity: float


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """A vector inside an entry and how alike it is: cosine, 1 for the same direction."""

    entry_id: str
    key: str
    similarity: float


class KnowledgeStore:
    """Deposit, read, find and forget knowledge.

    Every call opens a connection of its own: deposits are rare, and a broken connection is never inherited.

    Args:
        postgres_url: Where the tables live; the database needs pgvector.
        artifacts: Where the bytes live.
        clock_ms: Wall clock, for `created_at_ms`.
    """

    def __init__(
        self,
        *,
        postgres_url: str,
        artifacts: ArtifactStore,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.postgres_url, self.artifacts, self.clock_ms = postgres_url, artifacts, clock_ms

    def create(self) -> None:
        """Create the tables that are missing.

        Raises:
            VectorExtensionError: If the database has no pgvector.
            KnowledgeUnavailableError: If Postgres does not answer.
        """
        with tables.removing(self.postgres_url) as connection:
            tables.create(connection)

    def deposit(
        self,
        content: bytes,
        *,
        kind: Kind,
        lineage: Lineage,
        privacy: Privacy,
        worth: Mapping[str, float] | None = None,
        embedding: Sequence[float] = (),
    ) -> Entry:
        """Keep an artifact. The same deposit made twice is one entry; the same bytes deposited twice are one artifact.

        Args:
            content: What `learners.knowledge.contents` encodes for this kind. Rows of people who asked to be forgotten
                are left out.
            kind: What it holds.
            lineage: Where it comes from.
            privacy: Who may see it.
            worth: What was measured with it.
            embedding: Vector of its task.

        Returns:
            The entry, or the one that took its place since.

        Raises:
            InvalidEntryError: If the content is not of this kind, or a field is out of range.
            KnowledgeWriteError: If the artifact store refuses.
            KnowledgeUnavailableError: If Postgres does not answer; deposit again.
        """
        contents.check(kind, content)

        def described(what: bytes) -> Entry:
            return describe(
                kind=kind,
                privacy=privacy,
                lineage=lineage,
                worth=worth or {},
                sha256=sha256_of(what),
                size_bytes=len(what),
                created_at_ms=self.clock_ms(),
                embedding=embedding,
            )

        entry = described(content)
        with tables.writing(self.postgres_url) as connection:
            if (replacement := self._replacement(connection, entry)) is not None:
                return replacement
            if kind in ABOUT_PEOPLE:
                content = self._without_forgotten(connection, kind, content)
                entry = described(content)
            self.write(connection, content)
            with connection.transaction():
                tables.insert(connection, entry, searched_vectors(kind, content))
            return tables.one(connection, entry.entry_id)  # of two writers at once, the first one's row

    def read(self, entry_id: str) -> bytes:
        """Return an entry's artifact, proven byte by byte.

        Args:
            entry_id: The id, or the beginning of it.

        Raises:
            KnowledgeNotFoundError: If there is no such entry.
            CorruptKnowledgeError: If the bytes are not those that were deposited.
        """
        with tables.connect(self.postgres_url) as connection:
            entry = tables.one(connection, entry_id)
            try:
                return self.verified(entry)
            except CorruptKnowledgeError:
                tables.one(connection, entry.entry_id)  # collected while we read: then it is not found, not corrupt
                raise

    def verified(self, entry: Entry) -> bytes:
        """Return an entry's artifact without looking the entry up.

        Raises:
            CorruptKnowledgeError: If the bytes are not those that were deposited, or gone.
            ArtifactStoreError: If the artifact store does not answer.
        """
        try:
            content = self.artifacts.read(entry.sha256)
        except FileNotFoundError as error:
            raise CorruptKnowledgeError(
                entry_id=entry.entry_id, expected=entry.sha256, found="there is no file"
            ) from error
        if (found := sha256_of(content)) != entry.sha256:
            raise CorruptKnowledgeError(entry_id=entry.entry_id, expected=entry.sha256, found=f"sha256 {found}")
        return content

    def show(self, entry_id: str) -> Entry:
        """Return the entry of an id, or of the beginning of one.

        Raises:
            KnowledgeNotFoundError: If there is none, or several begin so.
        """
        with tables.connect(self.postgres_url) as connection:
            return tables.one(connection, entry_id)

    def entries(self, *, kind: Kind | None = None, task: str | None = None) -> list[Entry]:
        """Return entries, oldest first."""
        with tables.connect(self.postgres_url) as connection:
            return tables.select(
                connection,
                "WHERE (%(kind)s::text IS NULL OR kind = %(kind)s) AND (%(task)s::text IS NULL OR task = %(task)s) "
                "ORDER BY created_at_ms, entry_id",
                {"kind": kind, "task": task},
            )

    def nearest(
        self,
        embedding: Sequence[float],
        *,
        k: int = 5,
        kind: Kind | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> list[Match]:
        """Return the entries whose tasks are most like this one, the most alike first.

        Args:
            embedding: Vector of a task, not zero. Entries with a vector of another width are no candidates.
            k: Most entries.
            kind: Only entries of this kind.
            notes: Only entries whose lineage notes all of this.
        """
        vector = tables.as_vector(map(float, embedding))
        values = {"vector": vector, "width": len(embedding), "kind": kind, "k": k, "notes": Jsonb(dict(notes or {}))}
        with tables.connect(self.postgres_url) as connection:
            found = connection.execute(
                # CASE, because Postgres may compute the distance before it looks at the width
                """SELECT entry_id, 1 - distance AS similarity FROM (
                       SELECT entry_id, CASE WHEN vector_dims(embedding) = %(width)s
                                             THEN embedding <=> %(vector)s::vector END AS distance
                       FROM knowledge_entries
                       WHERE embedding IS NOT NULL AND (%(kind)s::text IS NULL OR kind = %(kind)s)
                             AND notes @> %(notes)s
                   ) AS compared WHERE distance IS NOT NULL AND distance <> 'NaN'
                   ORDER BY distance, entry_id LIMIT %(k)s""",
                values,
            ).fetchall()
            by_id = {
                entry.entry_id: entry
                for entry in tables.select(
                    connection, "WHERE entry_id = ANY(%s)", ([row["entry_id"] for row in found],)
                )
            }
        return [Match(by_id[row["entry_id"]], row["similarity"]) for row in found if row["entry_id"] in by_id]

    def nearest_keys(
        self, vector: Sequence[float], *, k: int = 10, entry_ids: Iterable[str] | None = None
    ) -> list[KeyMatch]:
        """Return the items or prototypes whose vectors are most alike, the most alike first.

        Args:
            vector: Not zero. Vectors of another width are no candidates.
            k: Most matches.
            entry_ids: Look inside these entries only, full ids; None: in all that hold items or prototypes.
        """
        values = {
            "vector": tables.as_vector(map(float, vector)),
            "width": len(vector),
            "within": None if entry_ids is None else [*entry_ids],
            "k": k,
        }
        with tables.connect(self.postgres_url) as connection:
            found = connection.execute(
                """SELECT entry_id, key, 1 - distance AS similarity FROM (
                       SELECT entry_id, key, CASE WHEN vector_dims(vector) = %(width)s
                                                  THEN vector <=> %(vector)s::vector END AS distance
                       FROM knowledge_vectors
                       WHERE %(within)s::text[] IS NULL OR entry_id = ANY(%(within)s)
                   ) AS compared WHERE distance IS NOT NULL AND distance <> 'NaN'
                   ORDER BY distance, entry_id, key LIMIT %(k)s""",
                values,
            ).fetchall()
        return [KeyMatch(**row) for row in found]

    def write(self, connection: tables.Connection, content: bytes) -> str:
        """Write an artifact that a row will name next; returns its address.

        Args:
            connection: From `tables.writing` or `tables.removing`, outside a transaction.
            content: The bytes.

        Raises:
            KnowledgeWriteError: If the artifact store refuses.
        """
        tables.claim(connection, sha256_of(content))
        return self.artifacts.write(content)

    def sweep(self, connection: tables.Connection) -> list[tuple[str, int]]:
        """Remove what this store wrote and no entry names; returns names and sizes in bytes of what went.

        What the tables know nothing of stays: they may be the wrong ones for this place.

        Args:
            connection: From `tables.removing`: it keeps writers out.
        """
        claims, left = tables.claims(connection), []
        for name, size in self.artifacts.names():
            address = address_in(name)
            if address in claims and (name != address or not claims[address]):
                left.append((name, size))
        for name, _ in left:
            self.artifacts.remove(name)
        tables.disclaim(connection, (address for address, named in claims.items() if not named))
        return left

    def _replacement(self, connection: tables.Connection, entry: Entry) -> Entry | None:
        row = connection.execute(
            "SELECT replaced_by FROM knowledge_replaced WHERE entry_id = %s", (entry.entry_id,)
        ).fetchone()
        if row is None:
            return None
        try:
            return tables.one(connection, row["replaced_by"])
        except KnowledgeNotFoundError:
            return None  # collected since; what is deposited now is redacted like anything else

    def _without_forgotten(self, connection: tables.Connection, kind: Kind, content: bytes) -> bytes:
        left = contents.redacted(kind, content, contents.keeper(tables.erasures(connection)))
        return content if left is None else left


def searched_vectors(kind: Kind, content: bytes) -> contents.KeyedVectors | None:
    """Return the vectors of an artifact that are searched by similarity, or None."""
    return contents.decode_vectors(content) if kind in _SEARCHED else None
