"""Append-only files of Arrow record batches, one per owner of a partition: what was archived and is not in Parquet yet.

A batch reaches the operating system before `append` returns, so a killed process loses nothing; of a batch cut short
by a power cut, and whatever follows it, nothing is read.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

SUFFIX = ".arrows"
_OFFSETS = b"alluvium.offsets"


class Journal:
    """One file that batches are appended to; it is created with the first of them.

    Args:
        folder: Where journals lie.
        prefix: Begins the file's name; says whose partition it is.
    """

    def __init__(self, *, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self.path: Path | None = None
        self.rows = 0
        self._file: Any = None
        self._stream: Any = None

    def append(self, batch: pa.RecordBatch, *, first_offset: int, next_offset: int) -> None:
        """Append one batch that covers offsets from `first_offset` up to but without `next_offset`."""
        if self.path is not None and not self._is_there():
            self.close()  # the partition's next owner took it over
            self.path = None
        if self.path is None:
            self.path = self._folder / f"{self._prefix}-{uuid4().hex[:12]}{SUFFIX}"
            self._file = self.path.open("xb")
            self._stream = pa.ipc.new_stream(self._file, batch.schema)
            self.rows = 0
        self._stream.write_batch(batch, custom_metadata={_OFFSETS: f"{first_offset} {next_offset}".encode()})
        self._file.flush()
        self.rows += batch.num_rows

    def _is_there(self) -> bool:
        try:
            return self.path is not None and os.fstat(self._file.fileno()).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            return False

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return int(self._file.tell()) if self._file is not None else 0

    def close(self) -> None:
        """Close the file; it stays until it has been turned into Parquet."""
        if self._file is not None:
            self._stream.close()
            self._file.close()
            self._file = self._stream = None


def batches(path: Path) -> Iterator[tuple[pa.RecordBatch, int, int]]:
    """Read a journal: each whole batch with its first and next offset."""
    with path.open("rb") as file:
        try:
            reader = pa.ipc.open_stream(file)
            while True:
                found = reader.read_next_batch_with_custom_metadata()
                first, following = bytes(found.custom_metadata[_OFFSETS]).split()
                yield found.batch, int(first), int(following)
        except (StopIteration, pa.ArrowInvalid, OSError):
            return  # the end, or where a crash cut it short
