"""What can go wrong with knowledge: one class per remedy."""

from collections.abc import Sequence

from learners.errors import LearnerError
from learners.items.layout import Layout


class InvalidEntryError(LearnerError, ValueError):
    """A field of an entry, or its content, is not what its kind needs; nothing was written."""

    def __init__(self, *, name: str, value: object, expected: str) -> None:
        super().__init__(f"knowledge entry's {name} is {value!r}; expected {expected}")
        self.name, self.value = name, value


class KnowledgeNotFoundError(LearnerError, LookupError):
    """No entry has this id, or more than one begins with it."""

    def __init__(self, *, entry_id: str, detail: str = "") -> None:
        super().__init__(f"no knowledge entry {entry_id!r}{': ' + detail if detail else ''}")
        self.entry_id = entry_id


class CorruptKnowledgeError(LearnerError, ValueError):
    """An artifact is not what its entry says; it must not be used."""

    def __init__(self, *, entry_id: str, expected: str, found: str) -> None:
        super().__init__(f"artifact of knowledge entry {entry_id} is corrupt: {found}; expected sha256 {expected}")
        self.entry_id, self.expected, self.found = entry_id, expected, found


class KnowledgeWriteError(LearnerError, OSError):
    """An artifact could not be written (disk full, no permission); nothing of it can be read."""

    def __init__(self, *, path: str, cause: str) -> None:
        super().__init__(f"cannot write {path}: {cause}; nothing of it can be read")
        self.path = path


class ArtifactStoreError(LearnerError, OSError):
    """The artifact store cannot be opened or read."""

    def __init__(self, *, url: str, cause: str, expected: str = "a URL that fsspec can open") -> None:
        super().__init__(f"artifact store {url!r} cannot be used: {cause}; expected {expected}")
        self.url = url


class KnowledgeUnavailableError(LearnerError, ConnectionError):
    """Postgres did not answer; try again after `retry_after_s` seconds."""

    def __init__(self, *, cause: str, retry_after_s: float) -> None:
        super().__init__(f"knowledge store is unavailable ({cause}); retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class KnowledgeRefusedError(LearnerError, RuntimeError):
    """Postgres answered, and refused: a missing permission, a constraint, a value that it cannot hold."""

    def __init__(self, *, cause: str) -> None:
        super().__init__(f"Postgres refused what the knowledge store asked of it: {cause}")
        self.cause = cause


class VectorExtensionError(LearnerError, RuntimeError):
    """The database has no pgvector, and this user may not create it."""

    def __init__(self, *, cause: str) -> None:
        super().__init__(f"Postgres has no extension vector ({cause}); install pgvector, then CREATE EXTENSION vector")


class PrivateEntryError(LearnerError, PermissionError):
    """An entry must not leave."""

    def __init__(self, *, entry_id: str, label: str, remedy: str) -> None:
        super().__init__(f"knowledge entry {entry_id} is {label} and does not leave; {remedy}")
        self.entry_id, self.label = entry_id, label


class KeyFileError(LearnerError, ValueError):
    """A key file cannot be read, or holds no Ed25519 key."""

    def __init__(self, *, path: str, cause: str) -> None:
        super().__init__(f"key file {path} is unusable: {cause}; expected an Ed25519 key in PEM")
        self.path = path


class ArchiveRefusedError(LearnerError, ValueError):
    """An archive is unsigned, tampered with, or too large; nothing of it was taken in."""

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(f"archive {path} is refused: {reason}; nothing of it was taken in")
        self.path, self.reason = path, reason


class UnfitDonorError(LearnerError, ValueError):
    """Knowledge that was to be reused does not fit the model that was to reuse it."""

    def __init__(self, *, entry_id: str, names: Sequence[str], layouts: tuple[Layout, Layout] | None = None) -> None:
        """Say what differs: parameters, or, where that is why, what the two models are told of items."""
        why = f"{', '.join(names[:3])} differ in name or shape"
        if layouts is not None:
            why = f"it is told of {layouts[0]}, the model of {layouts[1]}"
        super().__init__(f"knowledge entry {entry_id} does not fit: {why}")
        self.entry_id, self.names = entry_id, tuple(names)


class InvalidPathError(LearnerError, ValueError):
    """A path through the graph that cannot be followed."""

    def __init__(self, *, path: str, expected: str) -> None:
        super().__init__(f"path is {path!r}; expected {expected}")
        self.path = path


class FusionError(LearnerError, ValueError):
    """Models cannot be fused as asked."""

    def __init__(self, *, reason: str, names: Sequence[str] = ()) -> None:
        detail = f": {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
        super().__init__(f"models cannot be fused: {reason}{detail}")
        self.reason = reason
