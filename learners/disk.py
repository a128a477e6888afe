"""Directories and files that are there whole or not at all."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from learners.errors import LearnerError, ReleaseWriteError

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Hand out a temporary directory beside `target`, and rename it to `target` once the block has succeeded.

    Every file is flushed to the disk before the rename, and the rename before the block is left. A failure or a kill
    leaves at most the temporary directory, which `sweep` removes.

    Raises:
        ReleaseWriteError: If the disk refuses, or `target` exists.
    """
    temporary = target.parent / f"{TEMPORARY_PREFIX}{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        temporary.rename(target)
        _sync(target.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, LearnerError):  # what is said already is not said twice
            raise ReleaseWriteError(path=target, cause=str(error)) from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file's content in one step, durably.

    Raises:
        ReleaseWriteError: If the disk refuses; the old content is untouched.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ReleaseWriteError(path=path, cause=str(error)) from error


def sweep(folder: Path) -> list[Path]:
    """Remove what killed writers left in `folder`; call it only where no writer is at work. Returns what went."""
    if not folder.is_dir():
        return []
    left = sorted(path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX))
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return left


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of `content`, in hexadecimal.

    >>> sha256_of(b"")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(content).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
