"""Knowledge as one signed file: a plain tar of `manifest.json`, `manifest.sig` and `artifacts/<sha256>`.

The manifest holds every entry and the SHA-256 and size of every artifact; the signature (Ed25519) is over its bytes, so
it vouches for all the rest. An archive is verified from end to end before anything of it is written; then all artifacts
are written, then all rows in one transaction. So whatever is wrong with it, nothing of it is ever readable.
"""

import json
import os
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from learners.disk import TEMPORARY_PREFIX, sha256_of
from learners.errors import LearnerError
from learners.knowledge import contents, tables
from learners.knowledge.contents import KeyedVectors
from learners.knowledge.entry import Entry, Kind
from learners.knowledge.errors import ArchiveRefusedError, KnowledgeWriteError, PrivateEntryError
from learners.knowledge.keys import SigningKey, TrustedKey
from learners.knowledge.privacy_notes import epsilon_of
from learners.knowledge.store import KnowledgeStore, searched_vectors

MANIFEST, SIGNATURE, ARTIFACTS = "manifest.json", "manifest.sig", "artifacts/"
_FORMAT = 1
_SIGNATURE_BYTES = 64
_MOST_MANIFEST_BYTES = 64 * 2**20
_TAR_BLOCK = 512  # a tar pads members to it, and ends with twenty
_OVERHEAD_BYTES = 20 * _TAR_BLOCK + _MOST_MANIFEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import brought.

    Args:
        added: Entries that are new here.
        known: Entries that were here already.
        signed_by: Fingerprint of the key that signed the archive.
    """

    added: tuple[Entry, ...]
    known: tuple[Entry, ...]
    signed_by: str


def export_archive(
    store: KnowledgeStore,
    path: Path,
    *,
    entry_ids: Sequence[str],
    key: SigningKey,
    shop: bool = False,
    max_epsilon: float | None = None,
) -> list[Entry]:
    """Write entries and their artifacts into one signed archive; it appears whole or not at all.

    Args:
        store: Where they are.
        path: The file to write; replaced if it exists.
        entry_ids: What to export: ids, or beginnings of them.
        key: Signs it.
        shop: Whether entries labelled `shop` may leave, too. Personal ones never do.
        max_epsilon: Only what was learned with differential privacy leaves, at this epsilon in all: those of the
            entries add up. None: privacy labels alone decide.

    Returns:
        The entries in it.

    Raises:
        PrivateEntryError: If an entry must not leave; nothing is written.
        CorruptKnowledgeError: If an artifact is damaged; nothing is written.
        KnowledgeWriteError: If the disk refuses.
    """
    with tables.writing(store.postgres_url) as connection:  # nothing is collected meanwhile
        by_id = {entry.entry_id: entry for entry in (tables.one(connection, entry_id) for entry_id in entry_ids)}
        entries = list(by_id.values())
        for entry in entries:
            _require_may_leave(entry, shop=shop)
        if max_epsilon is not None:
            _require_private(entries, max_epsilon)
        artifacts = {entry.sha256: entry for entry in entries}
        manifest = _encode_manifest(entries, key.fingerprint, store.clock_ms())
        with _whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, MANIFEST, manifest)
            _add(tar, SIGNATURE, key.sign(manifest))
            for address in sorted(artifacts):
                _add(tar, ARTIFACTS + address, store.verified(artifacts[address]))
    return entries


def import_archive(store: KnowledgeStore, path: Path, *, trusted: Sequence[TrustedKey], max_bytes: int) -> Imported:
    """Take in an archive, all of it or nothing.

    Args:
        store: Where to.
        path: The archive.
        trusted: Keys whose archives are taken in.
        max_bytes: Most bytes of artifacts.

    Raises:
        ArchiveRefusedError: If it is unsigned, signed by an unknown key, tampered with, too large, or holds what must
            not travel; nothing was taken in.
        KnowledgeWriteError: If the artifact store refuses; nothing can be read of it.
    """
    with _opened(path, max_bytes) as tar:
        entries, sizes, signed_by = _verified_manifest(tar, path, trusted, max_bytes)
        _verify_artifacts(tar, path, entries, sizes)
    kinds = _kinds(entries)
    added: list[Entry] = []
    known: list[Entry] = []
    with tables.writing(store.postgres_url) as connection, _opened(path, max_bytes) as tar:
        searched: dict[tuple[Kind, str], KeyedVectors | None] = {}
        for member in _members(tar, path):
            if not member.name.startswith(ARTIFACTS):
                continue
            content, address = _read(tar, member), member.name.removeprefix(ARTIFACTS)
            if sha256_of(content) != address or address not in kinds:
                raise ArchiveRefusedError(path=str(path), reason=f"{member.name} changed while it was read")
            store.write(connection, content)
            searched |= {(kind, address): searched_vectors(kind, content) for kind in kinds[address]}
        with connection.transaction():
            for entry in entries:
                new = tables.insert(connection, entry, searched[entry.kind, entry.sha256])
                (added if new else known).append(entry)
    return Imported(added=tuple(added), known=tuple(known), signed_by=signed_by)


# ---- out


def _require_may_leave(entry: Entry, *, shop: bool) -> None:
    if entry.privacy == "personal":
        raise PrivateEntryError(entry_id=entry.entry_id, label="personal", remedy="nothing can make it")
    if entry.privacy == "shop" and not shop:
        raise PrivateEntryError(entry_id=entry.entry_id, label="shop", remedy="unless you say so (--shop)")


def _require_private(entries: Sequence[Entry], max_epsilon: float) -> None:
    """Refuse what states no epsilon, and more of it than may be spent (basic composition: epsilons add up)."""
    total = 0.0
    for entry in entries:
        epsilon = epsilon_of(entry.lineage.notes)
        if epsilon is None:
            remedy = "its lineage states no epsilon (alluvium knowledge privatize makes one that does)"
            raise PrivateEntryError(entry_id=entry.entry_id, label="not differentially private", remedy=remedy)
        total += epsilon
        if total > max_epsilon:
            label = f"at epsilon {total:g} with what goes before it"
            raise PrivateEntryError(entry_id=entry.entry_id, label=label, remedy=f"the bound is {max_epsilon:g}")


def _encode_manifest(entries: Sequence[Entry], fingerprint: str, now_ms: int) -> bytes:
    manifest = {
        "format": _FORMAT,
        "created_at_ms": now_ms,
        "signed_by": fingerprint,
        "entries": [entry.as_dict() for entry in entries],
        "artifacts": {entry.sha256: entry.size_bytes for entry in entries},
    }
    return json.dumps(manifest, sort_keys=True, indent=1).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, BytesIO(content))


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and not path.is_file():  # a pipe or a device would be replaced by the file
        raise KnowledgeWriteError(path=str(path), cause="it is there, and is no file")
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, LearnerError):
            raise KnowledgeWriteError(path=str(path), cause=str(error)) from error
        raise


# ---- in


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tarfile.TarFile]:
    """Open the tar, never a compressed one: what is in it cannot be larger than the file."""
    try:
        size = path.stat().st_size
        if size > max_bytes + _OVERHEAD_BYTES:
            raise ArchiveRefusedError(path=str(path), reason=f"it has {size} bytes; expected at most {max_bytes}")
        with tarfile.open(path, mode="r:") as tar:
            yield tar
    except (OSError, tarfile.TarError, EOFError) as error:
        if isinstance(error, LearnerError):
            raise
        raise ArchiveRefusedError(path=str(path), reason=f"it cannot be read as a tar: {error}") from error


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield members, refusing whatever is no plain file of ours."""
    seen = set()
    for member in tar:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise ArchiveRefusedError(path=str(path), reason=f"{member.name!r} is no plain file")
        if member.name in seen:
            raise ArchiveRefusedError(path=str(path), reason=f"{member.name!r} comes twice")
        seen.add(member.name)
        yield member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"{member.name} ends early")
    return content


def _verified_manifest(
    tar: tarfile.TarFile, path: Path, trusted: Sequence[TrustedKey], max_bytes: int
) -> tuple[list[Entry], Mapping[str, int], str]:
    """Read the first two members, and believe the first only once a trusted key has signed it."""
    parts = {}
    for name, most in ((MANIFEST, _MOST_MANIFEST_BYTES), (SIGNATURE, _SIGNATURE_BYTES)):
        member = tar.next()
        if member is None or member.name != name or not member.isreg() or member.issparse():
            found = "nothing" if member is None else repr(member.name)
            raise ArchiveRefusedError(path=str(path), reason=f"it has {found} where {name} is expected")
        if member.size > most:
            raise ArchiveRefusedError(path=str(path), reason=f"{name} has {member.size} bytes; expected at most {most}")
        parts[name] = _read(tar, member)
    manifest, signature = parts[MANIFEST], parts[SIGNATURE]
    signer = next((key for key in trusted if key.verifies(signature, manifest)), None)
    if signer is None:
        names = ", ".join(key.fingerprint[:12] for key in trusted) or "none"
        raise ArchiveRefusedError(path=str(path), reason=f"no trusted key signed its manifest (trusted: {names})")
    entries, sizes = _decode_manifest(manifest, path)
    if (total := sum(sizes.values())) > max_bytes:
        reason = f"its artifacts have {total} bytes; expected at most {max_bytes}"
        raise ArchiveRefusedError(path=str(path), reason=reason)
    return entries, sizes, signer.fingerprint


def _decode_manifest(content: bytes, path: Path) -> tuple[list[Entry], dict[str, int]]:
    """Read a manifest that a trusted key signed; that key's owner may still have made a mistake."""
    try:
        manifest: dict[str, Any] = json.loads(content)
        found = manifest["format"]
        entries = [] if found != _FORMAT else [Entry.from_dict(values) for values in manifest["entries"]]
        sizes = {str(address): int(size) for address, size in manifest["artifacts"].items()}
    except (LearnerError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveRefusedError(path=str(path), reason=f"its manifest is wrong: {error}") from error
    if found != _FORMAT:
        raise ArchiveRefusedError(path=str(path), reason=f"its format is {found}; expected {_FORMAT}")
    for entry in entries:
        if entry.privacy == "personal":
            raise ArchiveRefusedError(path=str(path), reason=f"entry {entry.entry_id} is personal and must not travel")
    if sizes != {entry.sha256: entry.size_bytes for entry in entries}:
        raise ArchiveRefusedError(path=str(path), reason="its manifest's artifacts are not those of its entries")
    return entries, sizes


def _kinds(entries: Sequence[Entry]) -> dict[str, set[Kind]]:
    """Return as what each artifact is deposited, by address."""
    kinds: dict[str, set[Kind]] = {}
    for entry in entries:
        kinds.setdefault(entry.sha256, set()).add(entry.kind)
    return kinds


def _verify_artifacts(tar: tarfile.TarFile, path: Path, entries: Sequence[Entry], sizes: Mapping[str, int]) -> None:
    """Read every artifact and hold it against the manifest."""
    kinds = _kinds(entries)
    missing = set(sizes)
    for member in _members(tar, path):
        if member.name in (MANIFEST, SIGNATURE):
            continue
        address = member.name.removeprefix(ARTIFACTS)
        if member.name != ARTIFACTS + address or address not in sizes:
            raise ArchiveRefusedError(path=str(path), reason=f"{member.name!r} is not in its manifest")
        if member.size != sizes[address]:
            reason = f"{member.name} has {member.size} bytes; its manifest says {sizes[address]}"
            raise ArchiveRefusedError(path=str(path), reason=reason)
        content = _read(tar, member)
        if (found := sha256_of(content)) != address:
            raise ArchiveRefusedError(path=str(path), reason=f"{member.name} has sha256 {found}")
        try:
            for kind in kinds[address]:
                contents.check(kind, content)
        except LearnerError as error:
            raise ArchiveRefusedError(path=str(path), reason=f"{member.name}: {error}") from error
        missing.discard(address)
    if missing:
        raise ArchiveRefusedError(path=str(path), reason=f"it lacks {ARTIFACTS}{min(missing)}")
