"""Forgetting people: what holds rows of theirs is replaced by what does not, and goes at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from learners.disk import sha256_of
from learners.knowledge import contents, tables
from learners.knowledge.entry import ABOUT_PEOPLE, Entry, describe
from learners.knowledge.errors import CorruptKnowledgeError
from learners.knowledge.store import KnowledgeStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What forgetting people did.

    Args:
        replaced: Ids of entries that held them -> ids of those without them that took their place.
        removed: Ids of entries whose artifact was damaged: what cannot be redacted must go.
    """

    replaced: Mapping[str, str]
    removed: tuple[str, ...]


def forget(store: KnowledgeStore, requests: Mapping[str, int]) -> Forgotten:
    """Redact people from exemplars and user embeddings; repeat it after any failure.

    Nobody deposits meanwhile, and requests are remembered: what is deposited later is redacted on its way in. The old
    artifacts are removed before this returns; a kill in between leaves them without a row, which the next call removes.

    Args:
        store: Where.
        requests: user_id -> time in ms up to which they are forgotten.

    Raises:
        KnowledgeWriteError: If the artifact store refuses; nothing has changed.
        KnowledgeUnavailableError: If Postgres does not answer.
    """
    with tables.removing(store.postgres_url) as connection:
        known = tables.erasures(connection)
        new = {user_id: at_ms for user_id, at_ms in requests.items() if at_ms > known.get(user_id, -1)}
        redacted: dict[str, tuple[Entry, bytes]] = {}  # by the id of the entry that goes
        removed = []
        for entry in tables.select(connection, "WHERE kind = ANY(%s)", (sorted(ABOUT_PEOPLE),)) if new else ():
            try:
                left = contents.redacted(entry.kind, store.verified(entry), contents.keeper(new))
            except CorruptKnowledgeError:
                removed.append(entry.entry_id)
                continue
            if left is not None:
                redacted[entry.entry_id] = _without(entry, left), left
        for _, content in redacted.values():
            store.write(connection, content)
        with connection.transaction():
            for user_id, at_ms in new.items():
                tables.remember_erasure(connection, user_id, at_ms)
            for old, (entry, _) in redacted.items():
                tables.insert(connection, entry, None)
                tables.remember_replacement(connection, old, entry.entry_id)
            tables.delete(connection, [*redacted, *removed])
        store.sweep(connection)
    return Forgotten(replaced={old: entry.entry_id for old, (entry, _) in redacted.items()}, removed=tuple(removed))


def _without(entry: Entry, content: bytes) -> Entry:
    """Return the entry that takes this one's place; knowledge does not grow younger by forgetting."""
    return describe(
        kind=entry.kind,
        privacy=entry.privacy,
        lineage=replace(entry.lineage, replaces=entry.entry_id),
        worth=entry.worth,
        sha256=sha256_of(content),
        size_bytes=len(content),
        created_at_ms=entry.created_at_ms,
        embedding=entry.embedding,
    )
