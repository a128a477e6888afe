"""The registry of releases: a row in Postgres is the truth; the pointer on disk and the topic record follow it.

Publishing takes four steps: (1) the version's directory appears whole, (2) its row is committed, (3) `CURRENT` moves,
(4) the record goes out and is marked published. Only (2) decides. A kill after (1) leaves a directory without a row,
which nobody serves and whose number is not given again; a kill after (2) or (3) leaves work that `repair` finds.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from learners.disk import sha256_of, sweep, whole_directory
from learners.errors import RegistryUnavailableError, ReleaseNotFoundError, StaleCandidateError
from learners.releases.release import (
    MANIFEST,
    Pointer,
    encode_manifest,
    load_release,
    path_of,
    read_manifest,
    read_pointer,
    write_pointer,
)

Connection = psycopg.Connection[dict[str, Any]]
VERSIONS = "versions"
_RETRY_AFTER_S = 5.0
_LOCK = 7_235_419_001  # any constant of our own: serialises writers of this table across processes

_TABLES = """
CREATE TABLE IF NOT EXISTS releases (
    model text NOT NULL,
    sequence bigint NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('release', 'rollback')),
    uri text NOT NULL,
    sha256 text NOT NULL,
    parent bigint,
    offsets jsonb NOT NULL,
    metrics jsonb NOT NULL,
    verdict jsonb NOT NULL,
    triggered_at_ms bigint NOT NULL,
    released_at_ms bigint NOT NULL,
    published boolean NOT NULL DEFAULT false,
    PRIMARY KEY (model, sequence)
);
CREATE UNIQUE INDEX IF NOT EXISTS releases_version ON releases (model, version) WHERE kind = 'release';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """One row: a release, or a return to an earlier one. Field by field what `models.releases` carries.

    Args:
        model: Name of the model.
        version: Number of the release that serves from here on.
        sequence: Rises by one with every row of this model; the highest row rules.
        kind: `release` or `rollback`.
        uri: `file://` URI of the version's directory.
        sha256: Of its manifest.
        parent: The version that served before; None for the first.
        offsets: Source partition -> next offset not yet learned.
        metrics: The candidate's figures at the gate.
        verdict: The gate's evidence, or why it was rolled back.
        triggered_at_ms: When the round was triggered, or the rollback decided.
        released_at_ms: When the row was written.
        published: Whether the topic has acknowledged its record.
    """

    model: str
    version: int
    sequence: int
    kind: Literal["release", "rollback"]
    uri: str
    sha256: str
    parent: int | None
    offsets: Mapping[str, int]
    metrics: Mapping[str, float]
    verdict: Mapping[str, Any]
    triggered_at_ms: int
    released_at_ms: int
    published: bool = False


Records = list[ReleaseRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What `Registry.repair` found and put right.

    Args:
        current: The row that rules; None without releases.
        pointer_moved: Whether `CURRENT` disagreed with it.
        swept: What killed writers left behind, now gone.
        orphans: Version directories that no row names. They stay: the table may be the wrong one.
        unpublished: Rows whose record must be sent (again), in order.
    """

    current: ReleaseRecord | None
    pointer_moved: bool
    swept: tuple[Path, ...]
    orphans: tuple[Path, ...]
    unpublished: tuple[ReleaseRecord, ...]


class Registry:
    """Publish, list, promote and roll back releases of one model.

    Every call opens a connection of its own: rounds are rare, and a broken connection is never inherited.

    Args:
        postgres_url: Where the table lives.
        root: Where version directories and `CURRENT` live, on this machine.
        model: Name of the model.
        clock_ms: Wall clock, for `released_at_ms`.
    """

    def __init__(
        self,
        *,
        postgres_url: str,
        root: Path,
        model: str = "shared_model",
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.root, self.model = root.absolute(), model
        self._postgres_url, self._clock_ms = postgres_url, clock_ms

    def create(self) -> None:
        """Create the table and the folders that are missing."""
        (self.root / VERSIONS).mkdir(parents=True, exist_ok=True)
        with self._writing() as connection:
            connection.execute(_TABLES)

    def publish(
        self,
        candidate: Path,
        *,
        offsets: Mapping[str, int],
        metrics: Mapping[str, float],
        verdict: Mapping[str, Any],
        triggered_at_ms: int,
    ) -> ReleaseRecord:
        """Number a candidate and make it the current release; send its record next, then `mark_published`.

        The candidate's directory is copied, so that it may lie on another disk, and stays where it is.

        Raises:
            CorruptReleaseError: If the candidate is not what its manifest says.
            StaleCandidateError: If another version serves than the one it was judged against.
            ReleaseWriteError: If the disk refuses; the incumbent is untouched.
            RegistryUnavailableError: If Postgres does not answer; `repair` finds out whether the row was written.
        """
        load_release(candidate)  # never number what cannot be loaded
        manifest = read_manifest(candidate)
        with self._writing() as connection:
            current = self._current(connection)
            serving = None if current is None else current.version
            if manifest["parent"] != serving:
                raise StaleCandidateError(model=self.model, parent=manifest["parent"], current=serving)
            version = self._next_version(connection)
            folder = self.root / VERSIONS / str(version)
            content = encode_manifest(
                manifest | {"version": version, "model_name": self.model, "offsets": dict(offsets)}
            )
            with whole_directory(folder) as temporary:
                for name in manifest["files"]:
                    shutil.copyfile(candidate / name, temporary / name)
                (temporary / MANIFEST).write_bytes(content)
            record = self._insert(
                connection,
                current,
                version=version,
                kind="release",
                uri=folder.as_uri(),
                sha256=sha256_of(content),
                offsets=offsets,
                metrics=metrics,
                verdict=verdict,
                triggered_at_ms=triggered_at_ms,
            )
            connection.commit()
            self._point(record)  # still under the lock, so that pointers move in the order of their rows
        return record

    def rollback(
        self,
        *,
        to_version: int | None = None,
        reason: Mapping[str, Any] | None = None,
        decided_at_ms: int | None = None,
    ) -> ReleaseRecord:
        """Return to an earlier release by a new row; send its record next, then `mark_published`.

        Args:
            to_version: Where to return to; None is the version that served before the current one.
            reason: JSON-able evidence.
            decided_at_ms: When it was decided; None is now.

        Raises:
            ReleaseNotFoundError: If there is nothing to return to, or its directory is gone.
            CorruptReleaseError: If its directory is damaged.
        """
        return self._return_to(to_version, reason or {}, decided_at_ms)

    def promote(self, version: int, *, reason: Mapping[str, Any] | None = None) -> ReleaseRecord:
        """Make any existing version current, by a new row of kind `rollback`; arguments and errors as there."""
        return self._return_to(version, {"promoted_by_hand": True, **(reason or {})}, None)

    def current(self) -> ReleaseRecord | None:
        """Return the row that rules, or None before the first release."""
        with self._reading() as connection:
            return self._current(connection)

    def list(self) -> Records:
        """Return every row, oldest first."""
        with self._reading() as connection:
            return self._select(connection, "ORDER BY sequence")

    def show(self, version: int) -> ReleaseRecord:
        """Return the row that released this version.

        Raises:
            ReleaseNotFoundError: If there is none.
        """
        with self._reading() as connection:
            return self._released(connection, version)

    def unpublished(self) -> Records:
        """Return the rows whose record the topic has not acknowledged yet, in the order to send them."""
        with self._reading() as connection:
            return self._select(connection, "AND NOT published ORDER BY sequence")

    def mark_published(self, sequence: int) -> None:
        """Note that the topic has acknowledged the record of this row."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE releases SET published = true WHERE model = %s AND sequence = %s", (self.model, sequence)
            )

    def repair(self) -> Repair:
        """Bring pointer and directories in line with the table. Call it at start, when nobody publishes."""
        self.create()
        with self._writing() as connection:
            rows = self._select(connection, "ORDER BY sequence")
            named = {path_of(row.uri) for row in rows}
            swept = (*sweep(self.root), *sweep(self.root / VERSIONS))
            orphans = tuple(sorted(path for path in (self.root / VERSIONS).iterdir() if path not in named))
            current = rows[-1] if rows else None
            moved = current is not None and read_pointer(self.root) != Pointer(current.version, current.sequence)
            if current is not None and moved:
                self._point(current)
        unpublished = tuple(row for row in rows if not row.published)
        return Repair(current=current, pointer_moved=moved, swept=swept, orphans=orphans, unpublished=unpublished)

    def prune(self, *, keep: int) -> tuple[int, ...]:
        """Remove the directories of old versions; rows stay. Never the current one, its parent, or the newest `keep`.

        Returns:
            The versions whose directories went.
        """
        with self._writing() as connection:
            rows = self._select(connection, "ORDER BY sequence")
            if not rows:
                return ()
            versions = sorted({row.version for row in rows if row.kind == "release"})
            kept = {rows[-1].version, rows[-1].parent, *versions[len(versions) - keep :]}
            gone = tuple(version for version in versions if version not in kept and self._folder(version).exists())
            for version in gone:
                shutil.rmtree(self._folder(version))
            return gone

    def _return_to(self, version: int | None, reason: Mapping[str, Any], decided_at_ms: int | None) -> ReleaseRecord:
        with self._writing() as connection:
            current = self._current(connection)
            target = version
            if target is None and current is not None:
                # The lineage of the version, not of the row: two rollbacks in a row go back two releases, not forth.
                target = self._released(connection, current.version).parent
            if target is None:
                raise ReleaseNotFoundError(model=self.model, version="before the current one")
            released = self._released(connection, target)
            load_release(released.uri, sha256=released.sha256)
            record = self._insert(
                connection,
                current,
                version=target,
                kind="rollback",
                uri=released.uri,
                sha256=released.sha256,
                offsets=released.offsets,
                metrics=released.metrics,
                verdict={"rollback": dict(reason), "from_version": current and current.version},
                triggered_at_ms=self._clock_ms() if decided_at_ms is None else decided_at_ms,
            )
            connection.commit()
            self._point(record)
        return record

    def _point(self, record: ReleaseRecord) -> None:
        write_pointer(self.root, Pointer(record.version, record.sequence))

    def _folder(self, version: int) -> Path:
        return self.root / VERSIONS / str(version)

    def _next_version(self, connection: Connection) -> int:
        row = connection.execute(
            "SELECT coalesce(max(version), 0) AS version FROM releases WHERE model = %s", (self.model,)
        ).fetchone()
        on_disk = [int(path.name) for path in (self.root / VERSIONS).iterdir() if path.name.isdigit()]
        return 1 + max([row["version"] if row else 0, *on_disk])  # an orphan's number is never given again

    def _insert(self, connection: Connection, current: ReleaseRecord | None, **values: Any) -> ReleaseRecord:
        record = ReleaseRecord(
            model=self.model,
            sequence=1 if current is None else current.sequence + 1,
            parent=None if current is None else current.version,
            released_at_ms=self._clock_ms(),
            **values,
        )
        connection.execute(
            """INSERT INTO releases (model, sequence, version, kind, uri, sha256, parent, offsets, metrics, verdict,
                                     triggered_at_ms, released_at_ms)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            (
                record.model,
                record.sequence,
                record.version,
                record.kind,
                record.uri,
                record.sha256,
                record.parent,
                Jsonb(dict(record.offsets)),
                Jsonb(dict(record.metrics)),
                Jsonb(dict(record.verdict)),
                record.triggered_at_ms,
                record.released_at_ms,
            ),
        )
        return record

    def _current(self, connection: Connection) -> ReleaseRecord | None:
        rows = self._select(connection, "ORDER BY sequence DESC LIMIT 1")
        return rows[0] if rows else None

    def _released(self, connection: Connection, version: int) -> ReleaseRecord:
        rows = [row for row in self._select(connection, "AND kind = 'release'") if row.version == version]
        if not rows:
            raise ReleaseNotFoundError(model=self.model, version=version)
        return rows[0]

    def _select(self, connection: Connection, rest: LiteralString) -> Records:
        found = connection.execute(f"SELECT * FROM releases WHERE model = %s {rest}", (self.model,))  # noqa: S608 - literals
        return [ReleaseRecord(**row) for row in found]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with psycopg.connect(self._postgres_url, row_factory=dict_row, connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise RegistryUnavailableError(cause=str(error).strip(), retry_after_s=_RETRY_AFTER_S) from error

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A connection that holds the writers' lock until it is closed; commits if the block succeeds."""
        with self._reading() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            yield connection
