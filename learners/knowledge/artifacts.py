"""Artifacts behind fsspec, addressed by their content: whole under their SHA-256, or not there at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from learners.disk import TEMPORARY_PREFIX, sha256_of
from learners.knowledge.entry import is_id
from learners.knowledge.errors import ArtifactStoreError, KnowledgeWriteError


class ArtifactStore:
    """Bytes by their SHA-256, in a folder that a URL names.

    A writer writes under a temporary name, makes that durable (on a local disk: fsync of file and folder), and renames
    it to its address. A kill before the rename leaves a temporary file, which `names` shows and nobody reads.

    Args:
        url: `file://` (or a plain path), `memory://`, or any other URL that fsspec can open.
        options: Passed to fsspec, e.g. credentials.

    Raises:
        ArtifactStoreError: If fsspec does not know the protocol, or lacks what it needs for it.

    >>> store = ArtifactStore("memory://doctest-artifacts")
    >>> address = store.write(b"knowledge")
    >>> store.read(address), store.write(b"knowledge") == address, len(list(store.names()))
    (b'knowledge', True, 1)
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        try:
            self._files, root = fsspec.core.url_to_fs(url, **options)
        except (ValueError, ImportError, OSError) as error:
            raise ArtifactStoreError(url=url, cause=str(error)) from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    def write(self, content: bytes) -> str:
        """Store bytes and return their SHA-256; a damaged artifact under that address is replaced by the good one.

        Raises:
            KnowledgeWriteError: If the store refuses; nothing is at the address that was not there before.
        """
        address = sha256_of(content)
        with contextlib.suppress(OSError):
            if self.read(address) == content:
                return address
        temporary = f"{self._root}/{TEMPORARY_PREFIX}{address}-{uuid.uuid4().hex[:8]}"
        try:
            self._files.makedirs(self._root, exist_ok=True)
            with self._files.open(temporary, "wb") as file:
                file.write(content)
                self._sync(file)
            self._rename(temporary, self._path(address))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._files.rm_file(temporary)
            raise KnowledgeWriteError(path=self._path(address), cause=str(error)) from error
        return address

    def read(self, address: str) -> bytes:
        """Return the bytes at an address, unverified.

        Raises:
            FileNotFoundError: If there are none.
            ArtifactStoreError: If the store does not let them be read.
        """
        with self._reached():
            content: bytes = self._files.cat_file(self._path(address))
        return content

    def remove(self, name: str) -> None:
        """Remove an artifact or what a killed writer left; nothing happens if it is gone already.

        Raises:
            ArtifactStoreError: If the store refuses.
        """
        with contextlib.suppress(FileNotFoundError), self._reached():
            self._files.rm_file(f"{self._root}/{name}")

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of everything that is ours: artifacts, and what killed writers left.

        Raises:
            ArtifactStoreError: If the store does not let itself be listed.
        """
        try:
            with self._reached():
                self._files.invalidate_cache()
                found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return
        for file in found:
            name = file["name"].rstrip("/").rsplit("/", 1)[-1]
            if file["type"] == "file" and (is_id(name) or name.startswith(TEMPORARY_PREFIX)):
                yield name, int(file["size"] or 0)

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Translate what a store raises that does not answer: no permission, a broken disk, a network that is away."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ArtifactStoreError(url=self.url, cause=str(error), expected="that it can be reached") from error

    def _path(self, address: str) -> str:
        if not is_id(address):
            message = f"{address!r} is no address; expected 64 hexadecimal digits"
            raise ValueError(message)
        return f"{self._root}/{address}"

    def _sync(self, file: IO[bytes]) -> None:
        if self._local:
            file.flush()
            os.fsync(file.fileno())

    def _rename(self, temporary: str, target: str) -> None:
        if not self._local:
            self._files.mv(temporary, target)  # an object appears whole
            return
        Path(temporary).replace(target)
        folder = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def address_in(name: str) -> str:
    """Return the address that an artifact, or what a killed writer left of one, belongs to.

    >>> address_in(f"{TEMPORARY_PREFIX}{64 * '0'}-abcd1234") == address_in(64 * "0") == 64 * "0"
    True
    """
    return name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
