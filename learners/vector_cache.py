"""Vectors on disk, by the hash of what they were computed from; shared by processes."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_INSERT = "INSERT OR IGNORE INTO vectors VALUES (?, ?)"
_REPLACE = "INSERT OR REPLACE INTO vectors VALUES (?, ?)"
CHUNK = 500  # keys in one statement, and vectors in one transaction


class VectorCache:
    """One SQLite file of keys and vectors.

    Args:
        path: Created, with its folder, if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, Floats]:
        """Return the vectors of those keys that are known."""
        known: dict[bytes, Floats] = {}
        with closing(self._connect()) as connection:
            for start in range(0, len(keys), CHUNK):
                chunk = keys[start : start + CHUNK]
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", chunk)  # noqa: S608
                known |= {key: np.frombuffer(vector, dtype="<f4").astype(np.float32) for key, vector in rows}
        return known

    def store(self, vectors: Mapping[bytes, Floats], *, anew: bool = False) -> None:
        """Remember vectors; one that is known already stays, unless `anew` says that it has changed."""
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
        with closing(self._connect()) as connection, connection:
            connection.executemany(_REPLACE if anew else _INSERT, rows)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection
