"""Donors: the kept entries that a new market may start from, taken out of the store as a directory of their own.

A round that chooses among them needs no database then, and makes the same choice however often it is repeated.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learners.disk import sha256_of, whole_directory
from learners.errors import LearnerError
from learners.knowledge.accumulation import target_counts
from learners.knowledge.entry import Entry, Kind, Lineage
from learners.knowledge.errors import ArtifactStoreError, CorruptKnowledgeError
from learners.knowledge.store import KnowledgeStore, Match
from learners.knowledge.task_vectors import task_vector
from learners.rounds.material import RoundInput

_LIST = "donors.json"
_LOOKED_AT = 200  # entries whose similarity is known before one of each line is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Donor:
    """An entry to start from, with all of it that is needed.

    Args:
        entry: Of kind `adapter`.
        similarity: Of its task and the new one, cosine.
        trunk: Its artifact; empty where it is refused.
        items: The entry of the item vectors that its release served; None if they were not kept.
        item_vectors: Their artifact.
        refused: Why it is no candidate, whatever a trial would say; empty if it is one.
    """

    entry: Entry
    similarity: float
    trunk: bytes = b""
    items: Entry | None = None
    item_vectors: bytes = b""
    refused: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the entries that whoever starts from it is made from."""
        return (self.entry.entry_id, *([] if self.items is None else [self.items.entry_id]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorSource:
    """Where donors are found.

    Args:
        store: Holds them.
        encoder: Of items' texts; what was learned beside another one is no candidate.
        most: Most of them that are tried.
    """

    store: KnowledgeStore
    encoder: str
    most: int = 3

    def of(self, round_input: RoundInput) -> list["Donor"]:
        """Return the donors of a round; see `find_donors`."""
        return find_donors(self.store, round_input, encoder=self.encoder, most=self.most)


def find_donors(store: KnowledgeStore, round_input: RoundInput, *, encoder: str, most: int) -> list[Donor]:
    """Return the entries whose tasks are most like a round's, the most alike first; of each line of releases one.

    Args:
        store: Where they are.
        round_input: The new market's round.
        encoder: Of its text vectors; what was learned beside another one is no candidate.
        most: Most of them.

    Raises:
        KnowledgeUnavailableError: If Postgres does not answer.
    """
    counts = target_counts(round_input)
    if not counts.any():
        return []
    vector = task_vector(round_input.texts, counts, counts).tolist()
    found = store.nearest(vector, k=_LOOKED_AT, kind="adapter", notes={"encoder": encoder})
    return [donor_of(store, match.entry, match.similarity) for match in newest_of_lines(found)[:most]]


def donor_of(store: KnowledgeStore, entry: Entry, similarity: float) -> Donor:
    """Return an entry with its artifacts, or with the reason why it cannot be used."""
    try:
        items = _items_of(store, entry)
        return Donor(
            entry=entry,
            similarity=similarity,
            trunk=store.verified(entry),
            items=items,
            item_vectors=b"" if items is None else store.verified(items),
        )
    except (ArtifactStoreError, CorruptKnowledgeError) as error:
        return Donor(entry=entry, similarity=similarity, refused=str(error))


def newest_of_lines(matches: Sequence[Match]) -> list[Match]:
    """Return of each line of releases the newest, in the order in which lines first appear.

    A line is what one learner released under one name: ten versions of one model are one thing to start from, not ten.
    """
    lines: dict[tuple[str, str, str], Match] = {}
    for match in matches:
        line = _line(match.entry.lineage)
        best = lines.get(line)
        if best is None or _version(match.entry) > _version(best.entry):
            lines[line] = match
    return list(lines.values())


def save_donors(folder: Path, donors: Sequence[Donor]) -> None:
    """Write donors into a new directory, whole or not at all.

    Raises:
        ReleaseWriteError: If the disk refuses.
    """
    listed = [
        {
            "entry": donor.entry.as_dict(),
            "similarity": donor.similarity,
            "items": None if donor.items is None else donor.items.as_dict(),
            "refused": donor.refused,
        }
        for donor in donors
    ]
    with whole_directory(folder) as target:
        for donor in donors:
            if not donor.refused:
                (target / donor.entry.sha256).write_bytes(donor.trunk)
                if donor.items is not None:
                    (target / donor.items.sha256).write_bytes(donor.item_vectors)
        (target / _LIST).write_text(json.dumps(listed), encoding="utf-8")


def load_donors(folder: Path) -> list[Donor]:
    """Read what `save_donors` wrote; what is damaged since is refused."""
    listed = json.loads((folder / _LIST).read_text(encoding="utf-8"))
    return [_loaded(folder, said) for said in listed]


def _loaded(folder: Path, said: dict[str, Any]) -> Donor:
    entry = Entry.from_dict(said["entry"])
    items = None if said["items"] is None else Entry.from_dict(said["items"])
    if said["refused"]:
        return Donor(entry=entry, similarity=said["similarity"], refused=said["refused"])
    try:
        return Donor(
            entry=entry,
            similarity=said["similarity"],
            trunk=_verified(folder, entry),
            items=items,
            item_vectors=b"" if items is None else _verified(folder, items),
        )
    except LearnerError as error:
        return Donor(entry=entry, similarity=said["similarity"], refused=str(error))


def _verified(folder: Path, entry: Entry) -> bytes:
    try:
        content = (folder / entry.sha256).read_bytes()
    except OSError as error:
        raise CorruptKnowledgeError(entry_id=entry.entry_id, expected=entry.sha256, found=str(error)) from error
    if (found := sha256_of(content)) != entry.sha256:
        raise CorruptKnowledgeError(entry_id=entry.entry_id, expected=entry.sha256, found=f"sha256 {found}")
    return content


def _items_of(store: KnowledgeStore, donor: Entry) -> Entry | None:
    """Return the entry of the item vectors that the donor's release served, if they were kept."""
    kind: Kind = "item_embeddings"
    mine = (donor.lineage.model_version, _line(donor.lineage))
    for entry in store.entries(kind=kind, task=donor.lineage.task):
        if (entry.lineage.model_version, _line(entry.lineage)) == mine:
            return entry
    return None


def _line(lineage: Lineage) -> tuple[str, str, str]:
    """What one learner released under one name: its round keys begin alike."""
    return lineage.task, lineage.model, lineage.notes.get("round", "").rpartition("-")[0]


def _version(entry: Entry) -> int:
    return entry.lineage.model_version or 0
