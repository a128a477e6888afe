"""An entry of the knowledge store: what a piece of knowledge is, where it comes from, what it is worth, who may see it.

An entry never changes. Its id is the SHA-256 of all that it says but when it was written, so the same deposit made
twice, by two writers or again after a crash, is one entry.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from learners.disk import sha256_of
from learners.knowledge.errors import InvalidEntryError

Kind = Literal[
    "adapter",
    "head",
    "prototypes",
    "exemplars",
    "fisher",
    "user_embeddings",
    "item_embeddings",
    "graph_edges",
    "teacher_logits",
]
Privacy = Literal["public", "shop", "personal"]

KINDS: tuple[str, ...] = get_args(Kind)
LABELS: tuple[str, ...] = get_args(Privacy)
ABOUT_PEOPLE = frozenset(
    {"exemplars", "user_embeddings"}
)  # rows of single persons: always personal, redacted on request
MOST_DIMENSIONS = 16_000  # of a pgvector `vector`
_NAME = re.compile(r"^[\w.:/@+-]{1,200}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where knowledge comes from.

    Args:
        task: What it was learned for, e.g. `sequence` or `sequence/uk`.
        model: Name of the model.
        model_version: Its release; None where there is none.
        offsets: Source partition -> next offset not yet learned.
        parents: Ids of the entries that it was made from.
        replaces: Id of the entry whose place it took, when persons were redacted from that; None otherwise.
        notes: Anything else worth knowing, as text: encoder, market, round.
    """

    task: str
    model: str = "shared_model"
    model_version: int | None = None
    offsets: Mapping[str, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    replaces: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that are none, and parents that are no ids."""
        for name in ("task", "model"):
            if not _NAME.fullmatch(getattr(self, name)):
                expected = "1 to 200 letters, digits or . : / @ + - _"
                raise InvalidEntryError(name=name, value=getattr(self, name), expected=expected)
        object.__setattr__(self, "parents", tuple(sorted(set(self.parents))))
        for parent in (*self.parents, *([] if self.replaces is None else [self.replaces])):
            if not is_id(parent):
                raise InvalidEntryError(name="parent", value=parent, expected="the 64 hexadecimal digits of an entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the store; build it with `describe`.

    Args:
        entry_id: SHA-256 of the rest, `created_at_ms` left out.
        kind: What the artifact holds; see `learners.knowledge.contents`.
        privacy: `public` (may leave), `shop` (leaves only when asked for by name), `personal` (never leaves).
        lineage: Where it comes from.
        worth: Metric -> what was measured with it.
        sha256: Of the artifact.
        size_bytes: Of the artifact.
        created_at_ms: When it was deposited.
        embedding: Vector of its task, float32 numbers; empty if there is none. See `learners.knowledge.task_vectors`.
    """

    entry_id: str
    kind: Kind
    privacy: Privacy
    lineage: Lineage
    worth: Mapping[str, float]
    sha256: str
    size_bytes: int
    created_at_ms: int
    embedding: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Entry":
        """Read what `as_dict` wrote, checking every field and the id.

        Raises:
            InvalidEntryError: If a field is missing, unknown or wrong, or the id is not that of the rest.
        """
        try:
            lineage = Lineage(**{**values["lineage"], "parents": tuple(values["lineage"]["parents"])})
            rest = {name: value for name, value in values.items() if name not in {"entry_id", "lineage"}}
            entry = describe(lineage=lineage, **rest)
            promised = values["entry_id"]
        except (KeyError, TypeError) as error:
            raise InvalidEntryError(name="fields", value=str(error), expected="those of an entry") from error
        if entry.entry_id != promised:
            raise InvalidEntryError(name="entry_id", value=promised, expected=f"{entry.entry_id}, the sum of the rest")
        return entry


def describe(
    *,
    kind: Kind,
    privacy: Privacy,
    lineage: Lineage,
    worth: Mapping[str, float],
    sha256: str,
    size_bytes: int,
    created_at_ms: int,
    embedding: Any = (),
) -> Entry:
    """Return the entry of an artifact, its numbers in the precision that the store keeps.

    >>> lineage = Lineage(task="sequence")
    >>> one = describe(kind="fisher", privacy="shop", lineage=lineage, worth={}, sha256="0" * 64, size_bytes=1,
    ...                created_at_ms=5)
    >>> again = describe(kind="fisher", privacy="shop", lineage=lineage, worth={}, sha256="0" * 64, size_bytes=1,
    ...                  created_at_ms=6)
    >>> one.entry_id == again.entry_id, Entry.from_dict(one.as_dict()) == one
    (True, True)

    Raises:
        InvalidEntryError: If a field is out of range, or rows of persons are labelled as anything but personal.
    """
    if kind not in KINDS:
        raise InvalidEntryError(name="kind", value=kind, expected=f"one of {', '.join(KINDS)}")
    if privacy not in LABELS:
        raise InvalidEntryError(name="privacy", value=privacy, expected=f"one of {', '.join(LABELS)}")
    if kind in ABOUT_PEOPLE and privacy != "personal":
        raise InvalidEntryError(name="privacy", value=privacy, expected=f"'personal', because {kind} are about people")
    if not is_id(sha256):
        raise InvalidEntryError(name="sha256", value=sha256, expected="64 hexadecimal digits")
    for name, number in (("size_bytes", size_bytes), ("created_at_ms", created_at_ms)):
        if not isinstance(number, int) or not 0 <= number < 2**63:
            raise InvalidEntryError(name=name, value=number, expected="a whole number of at least 0")
    figures = {name: _finite(f"worth[{name!r}]", value) for name, value in sorted(worth.items())}
    vector = np.asarray(embedding, dtype=np.float32)
    if vector.ndim != 1 or len(vector) > MOST_DIMENSIONS or not np.isfinite(vector).all():
        expected = f"up to {MOST_DIMENSIONS} finite numbers"
        raise InvalidEntryError(name="embedding", value=f"of shape {vector.shape}", expected=expected)
    numbers = tuple((vector + 0.0).tolist())  # + 0.0: there is no negative zero in the database
    said = {
        "kind": kind,
        "privacy": privacy,
        "lineage": asdict(lineage),
        "worth": figures,
        "sha256": sha256,
        "size_bytes": size_bytes,
        "embedding": numbers,
    }
    return Entry(
        entry_id=sha256_of(json.dumps(said, sort_keys=True).encode()),
        kind=kind,
        privacy=privacy,
        lineage=lineage,
        worth=figures,
        sha256=sha256,
        size_bytes=size_bytes,
        created_at_ms=created_at_ms,
        embedding=numbers,
    )


def is_id(text: object) -> bool:
    """Say whether this is a SHA-256 in hexadecimal.

    >>> is_id("0" * 64), is_id("../" + "0" * 61), is_id(7)
    (True, False, False)
    """
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value) + 0.0
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidEntryError(name=name, value=value, expected="a finite number")
    return number
