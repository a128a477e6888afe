"""Point-in-time history: every state as it was after each flush, in Parquet parts that `get_historical_features` reads.

A flush appends its rows to a journal before it commits, so the history has no gap; what a crash makes be flushed
again is recognised by its offsets and not written twice. Now and then a journal becomes one immutable part per view,
written beside and renamed; the part's name and its metadata (`alluvium.*`) say which offsets it covers. A part is
read by others as soon as it is there, a journal is not.

    <history_dir>/<view>/<topic>-<cluster>-<partition>-<first offset>-<next offset>.parquet
    <history_dir>/_journal/...

Erasing a person rewrites the parts that name them. What must be erased is noted first and crossed out last, so a
killed process takes it up again; a journal leaves out what was erased before it becomes a part.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Generic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.journal import SUFFIX, Journal, batches
from feature_store.repo.definitions import CREATED, EVENT_TIMESTAMP, USER_ID
from feature_store.rows import Codec, Kind, State
from feature_store.transaction import PreparedFlush
from feature_store.users import NEVER_MS

_MOMENT = pa.timestamp("us", tz="UTC")
_TYPES: dict[Kind, Any] = {"doubles": pa.float64(), "integers": pa.int64(), "strings": pa.string()}


class History(Generic[State]):
    """Writes one kind of entity's history.

    Args:
        history_dir: Folder of all histories.
        codec: What an entity's state consists of.
        cluster_id: Identity of the Kafka cluster that the offsets are of.
        part_rows: Rows after which a journal becomes parts.
        part_bytes: Bytes after which it does.
        part_age_s: Seconds after which it does, if another flush comes.
    """

    def __init__(
        self,
        *,
        history_dir: Path,
        codec: Codec[State],
        cluster_id: str,
        part_rows: int = 100_000,
        part_bytes: int = 64 * 1024 * 1024,
        part_age_s: float = 600.0,
    ) -> None:
        self._dir, self._codec = history_dir.absolute(), codec
        self._cluster = hashlib.sha256(cluster_id.encode()).hexdigest()[:8]
        self._part_rows, self._part_bytes, self._part_age_s = part_rows, part_bytes, part_age_s
        self._journal_dir = self._dir / "_journal"
        self._journal_dir.mkdir(parents=True, exist_ok=True)
        for view in codec.views:
            (self._dir / view).mkdir(exist_ok=True)
        self._journals: dict[tuple[str, int], Journal] = {}
        self._began: dict[tuple[str, int], float] = {}
        self._covered: dict[tuple[str, int], int] = {}
        self._background = ThreadPoolExecutor(1, thread_name_prefix="alluvium-history")
        self._running: list[Future[None]] = []
        self._notes_read: tuple[tuple[int, int], dict[str, Any]] = (0, 0), {}

    def open(self, topic: str, partition: int) -> None:
        """Take over a partition: turn the journals of its last owner into parts, and see how far they reach."""
        prefix = self._prefix(topic, partition)
        for path in sorted(self._journal_dir.glob(f"{prefix}-*{SUFFIX}")):
            self._to_parts(path, prefix)
        reached = [_offsets(path)[1] for path in (self._dir / self._codec.guarded).glob(f"{prefix}-*.parquet")]
        self._covered[topic, partition] = max(reached, default=0)
        self._journals[topic, partition] = Journal(folder=self._journal_dir, prefix=prefix)
        if any(not note["done"] for note in self._erasures().values()):
            self._run(self._erase_noted)

    def close(self, topic: str, partition: int) -> None:
        """Give a partition up: its journal becomes parts, and the call returns when it has."""
        if (journal := self._journals.pop((topic, partition), None)) is not None:
            self._finish(journal, self._prefix(topic, partition))
        self.settle()

    def shut_down(self) -> None:
        """Give every partition up, and end the thread that writes parts."""
        for topic, partition in list(self._journals):
            self.close(topic, partition)
        self.settle()
        self._background.shutdown()

    def append(self, prepared: PreparedFlush[State]) -> None:
        """Append the rows of a flush, unless its offsets are covered already."""
        delta = prepared.delta
        key = delta.topic, delta.partition
        covered = self._covered[key]
        if delta.next_offset <= covered or not prepared.ids or prepared.snapshots is None:
            return
        self._raise_failures()
        journal = self._journals[key]
        first = delta.first_offset if delta.first_offset is not None else prepared.ledger.next_offset or 0
        journal.append(self._batch(prepared), first_offset=max(first, covered), next_offset=delta.next_offset)
        self._covered[key] = delta.next_offset
        began = self._began.setdefault(key, monotonic())
        full = journal.rows >= self._part_rows or journal.size_bytes >= self._part_bytes
        if full or monotonic() - began >= self._part_age_s:
            self._roll(key)

    def roll(self) -> None:
        """Turn every journal into parts and wait for it, so that readers see all there is."""
        for key in list(self._journals):
            self._roll(key)
        self.settle()

    def erase(self, user_id: str, requested_at_ms: int) -> None:
        """Note that a person's rows written up to now must go; parts that name them are rewritten in the background.

        A repeated request finds its note, and leaves what was written after it.
        """
        known = self._erasures().get(user_id)
        if known is not None and known["done"] and known["requested_at_ms"] >= requested_at_ms:
            return
        with self._locked():
            notes = self._erasures()
            known = notes.get(user_id)
            if known is None or known["requested_at_ms"] < requested_at_ms:
                note = {"requested_at_ms": requested_at_ms, "until_us": time_ns() // 1000, "done": False}
                self._write_erasures({**notes, user_id: note})
        for key in list(self._journals):
            self._roll(key)
        self._run(self._erase_noted)

    def settle(self) -> None:
        """Wait for what runs in the background.

        Raises:
            OSError: If a part could not be written.
        """
        running, self._running = self._running, []
        for future in running:
            future.result()

    def _roll(self, key: tuple[str, int]) -> None:
        journal, prefix = self._journals[key], self._prefix(*key)
        self._journals[key] = Journal(folder=self._journal_dir, prefix=prefix)
        self._began.pop(key, None)
        self._finish(journal, prefix)

    def _finish(self, journal: Journal, prefix: str) -> None:
        journal.close()
        if (path := journal.path) is not None:
            self._run(lambda: self._to_parts(path, prefix))

    def _run(self, work: Any) -> None:
        self._running.append(self._background.submit(work))

    def _raise_failures(self) -> None:
        done = [future for future in self._running if future.done()]
        self._running = [future for future in self._running if not future.done()]
        for future in done:
            future.result()

    def _prefix(self, topic: str, partition: int) -> str:
        return f"{topic}-{self._cluster}-{partition}"

    def _batch(self, prepared: PreparedFlush[State]) -> pa.RecordBatch:
        times_ms = np.asarray(prepared.times_ms, np.int64)
        columns: list[Any] = [
            pa.array(prepared.ids, pa.string()),
            pa.array(np.where(times_ms > NEVER_MS, times_ms, 0) * 1000, _MOMENT),
            pa.array(np.full(len(prepared.ids), time_ns() // 1000), _MOMENT),
        ]
        for kind, values in zip(self._codec.kinds, zip(*prepared.snapshots or (), strict=True), strict=True):
            columns.append(_lists(kind, values))
        names = [self._codec.join_key, EVENT_TIMESTAMP, CREATED]
        names += [f"{view}.{feature}" for view, feature in self._codec.columns]
        seen = times_ms > NEVER_MS  # who was erased meanwhile has no row
        return pa.RecordBatch.from_arrays(columns, names=names).filter(pa.array(seen))

    def _to_parts(self, path: Path, prefix: str) -> None:
        """Write one part per view from a journal, then delete it; a crash in between makes the same parts again."""
        with self._locked():
            found = list(batches(path)) if path.exists() else []  # the partition's next owner may have been here
            if found:
                first, following = min(start for _, start, _ in found), max(end for _, _, end in found)
                table = self._without_erased(pa.Table.from_batches([batch for batch, _, _ in found]))
                for view in self._codec.views:
                    self._write_part(view, table, name=f"{prefix}-{first:020d}-{following:020d}.parquet")
            path.unlink(missing_ok=True)

    def _write_part(self, view: str, table: pa.Table, *, name: str) -> None:
        features = self._codec.features_of(view)
        part = table.select([self._codec.join_key, EVENT_TIMESTAMP, CREATED, *(f"{view}.{one}" for one in features)])
        part = part.rename_columns([self._codec.join_key, EVENT_TIMESTAMP, CREATED, *features])
        if view != self._codec.guarded:
            part = part.filter(pc.is_valid(part[features[0]]))
        first, following = _offsets(Path(name))
        covers = {"alluvium.first_offset": str(first), "alluvium.next_offset": str(following)}
        _write_parquet(part.replace_schema_metadata(covers), self._dir / view / name)

    def _without_erased(self, table: pa.Table) -> pa.Table:
        notes = self._erasures()
        for user_id in notes.keys() & set(pc.unique(table[self._codec.join_key]).to_pylist()):
            table = table.filter(self._others(table, user_id, notes[user_id]["until_us"]))
        return table

    def _others(self, table: pa.Table, user_id: str, until_us: int) -> Any:
        named = pc.equal(table[self._codec.join_key], user_id)
        return pc.invert(pc.and_(named, pc.less_equal(table[CREATED], pa.scalar(until_us, _MOMENT))))

    def _erase_noted(self) -> None:
        """Rewrite every part that names someone whose erasure is noted and not crossed out."""
        with self._locked():
            notes = self._erasures()
            open_notes = {user_id: note for user_id, note in notes.items() if not note["done"]}
            if not open_notes:
                return
            for view in self._codec.views:
                for path in sorted((self._dir / view).glob("*.parquet")):
                    self._rewrite(path, {user_id: note["until_us"] for user_id, note in open_notes.items()})
            self._write_erasures({**notes, **{user_id: {**note, "done": True} for user_id, note in open_notes.items()}})

    def _rewrite(self, path: Path, until_us: dict[str, int]) -> None:
        key = self._codec.join_key
        named = pc.is_in(pq.ParquetFile(path).read(columns=[key])[key], pa.array(list(until_us), pa.string()))
        if not pc.any(named).as_py():
            return
        table = pq.ParquetFile(path).read()
        for user_id, until in until_us.items():
            table = table.filter(self._others(table, user_id, until))
        _write_parquet(table, path)

    @property
    def _notes(self) -> Path:
        return self._journal_dir / "erasures.json"

    def _erasures(self) -> dict[str, Any]:
        if self._codec.join_key != USER_ID:
            return {}
        try:
            found = self._notes.stat()
            if self._notes_read[0] != (found.st_ino, found.st_mtime_ns):
                notes: dict[str, Any] = json.loads(self._notes.read_text(encoding="utf-8"))
                self._notes_read = (found.st_ino, found.st_mtime_ns), notes
        except FileNotFoundError:
            return {}
        return self._notes_read[1]

    def _write_erasures(self, notes: dict[str, Any]) -> None:
        beside = self._notes.with_suffix(".tmp")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(notes, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._notes)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes, and this one's other threads, from rewriting parts at the same time."""
        with (self._journal_dir / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _lists(kind: Kind, values: tuple[Any, ...]) -> Any:
    """Make an array of lists; numbers are copied as they lie in memory."""
    width = 1 if kind == "strings" else 8
    lengths = np.fromiter((0 if value is None else len(value) // width for value in values), np.int64, len(values))
    offsets = pa.array(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        mask=np.array([value is None for value in values] + [False]),
    )
    if kind == "strings":
        flat = pa.array([one for value in values if value for one in value], pa.string())
    else:
        numbers = np.frombuffer(b"".join(filter(None, values)), np.float64 if kind == "doubles" else np.int64)
        flat = pa.array(numbers, _TYPES[kind])
    return pa.ListArray.from_arrays(offsets, flat)


def _offsets(path: Path) -> tuple[int, int]:
    """Read the offsets that a part covers from its name.

    >>> _offsets(Path("clickstream.events-0a1b2c3d-3-00000000000000000007-00000000000000000012.parquet"))
    (7, 12)
    """
    first, following = path.stem.split("-")[-2:]
    return int(first), int(following)


def _write_parquet(table: pa.Table, path: Path) -> None:
    """Write a file that is either there as a whole or not at all."""
    beside = path.with_name(f"_{path.name}.tmp")  # readers of the folder pass over names that begin with _
    pq.write_table(table, beside, compression="snappy")
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
