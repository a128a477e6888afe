"""Garbage collection: keep the bytes within a bound, letting go first of what is worth little and old.

What serves stays. What a living entry names as its parent goes last, and never without being said: every artifact is
whole in itself, so a child can be used without its parent, but its lineage then ends in an id that leads nowhere.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from learners.knowledge import tables
from learners.knowledge.entry import Entry
from learners.knowledge.store import KnowledgeStore

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionConfig:
    """What may stay.

    Args:
        max_bytes: Most bytes of artifacts; an artifact of several entries counts once. At least 0.
        max_age_days: What is older goes even where there is room; None: nothing goes by age alone.
        half_life_days: An entry counts half as much after this time; above 0.
        hold_parents: Whether parents of living entries stay even where the rest does not fit.
        metric: The end of the name of the metric that tells what an entry is worth; without it an entry is worth 0.
    """

    max_bytes: int
    max_age_days: float | None = None
    half_life_days: float = 30.0
    hold_parents: bool = False
    metric: str = "ndcg_10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did, or would do.

    Args:
        removed: Entries that went, the least worth first.
        bereaved: Those among them that a living entry names as its parent, by id -> id of that entry.
        held: Entries that should have gone but stay, by id -> why.
        swept: Names and bytes of what no entry names: leavings of writers that were killed.
        bytes_before: Of all artifacts that entries name.
        bytes_after: The same, after it.
        over_bytes: By how much it is still above the bound; 0 if it is not.
    """

    removed: tuple[Entry, ...]
    bereaved: Mapping[str, str]
    held: Mapping[str, str]
    swept: tuple[tuple[str, int], ...]
    bytes_before: int
    bytes_after: int
    over_bytes: int


def collect(
    store: KnowledgeStore,
    config: CollectionConfig,
    *,
    serving: Callable[[Entry], str | None] = lambda _: None,
    dry_run: bool = False,
) -> Collected:
    """Remove the entries that are worth least until the rest fits, and whatever killed writers left.

    Nobody deposits meanwhile. Rows go first, in one transaction, then artifacts; a kill in between leaves artifacts
    that no row names, which the next collection sweeps.

    Args:
        store: Where.
        config: What may stay.
        serving: Why an entry must stay because something that serves uses it, or None.
        dry_run: Only say what would go.

    Raises:
        KnowledgeUnavailableError: If Postgres does not answer.
    """
    with tables.removing(store.postgres_url) as connection:
        entries = tables.select(connection)
        replaced = {
            row["entry_id"]: row["replaced_by"]
            for row in connection.execute("SELECT entry_id, replaced_by FROM knowledge_replaced")
        }
        removed, held = choose(entries, config, now_ms=store.clock_ms(), serving=serving, replaced=replaced)
        gone = {entry.entry_id for entry in removed}
        left = [entry for entry in entries if entry.entry_id not in gone]
        swept: list[tuple[str, int]] = []
        if not dry_run:
            with connection.transaction():
                tables.delete(connection, gone)
            orphaned = {entry.sha256 for entry in removed}
            swept = [file for file in store.sweep(connection) if file[0] not in orphaned]
        bytes_after = total_bytes(left)
    return Collected(
        removed=tuple(removed),
        bereaved={
            entry.entry_id: child for entry in removed if (child := _child_of(entry, left, replaced)) is not None
        },
        held=held,
        swept=tuple(swept),
        bytes_before=total_bytes(entries),
        bytes_after=bytes_after,
        over_bytes=max(0, bytes_after - config.max_bytes),
    )


def choose(
    entries: Sequence[Entry],
    config: CollectionConfig,
    *,
    now_ms: int,
    serving: Callable[[Entry], str | None],
    replaced: Mapping[str, str],
) -> tuple[list[Entry], dict[str, str]]:
    """Decide which entries go, in order, and which should have gone but are held, with the reason.

    Removing a child frees its parents, so the least worth is looked for again after every removal.
    """
    alive = {entry.entry_id: entry for entry in entries}
    scores = worth_now(entries, config, now_ms=now_ms)
    order = sorted(entries, key=lambda entry: (scores[entry.entry_id], entry.created_at_ms, entry.entry_id))
    oldest_ms = -1 if config.max_age_days is None else now_ms - round(config.max_age_days * DAY_MS)
    sharers = Counter(entry.sha256 for entry in entries)
    children = Counter(_followed(parent, replaced) for entry in entries for parent in entry.lineage.parents)
    in_use = {entry.entry_id: reason for entry in entries if (reason := serving(entry)) is not None}
    size, removed = total_bytes(entries), list[Entry]()
    while True:
        due = [entry for entry in order if entry.created_at_ms < oldest_ms] if size <= config.max_bytes else order
        free = [entry for entry in due if entry.entry_id not in in_use]
        victim = next((entry for entry in free if not children[entry.entry_id]), None)
        if victim is None and free and not config.hold_parents:
            victim = free[0]
        if victim is None:
            break
        order.remove(victim)
        del alive[victim.entry_id]
        removed.append(victim)
        sharers[victim.sha256] -= 1
        size -= 0 if sharers[victim.sha256] else victim.size_bytes
        for parent in victim.lineage.parents:
            children[_followed(parent, replaced)] -= 1
    return removed, {entry.entry_id: _reason(entry, in_use, alive.values(), replaced) for entry in due}


def worth_now(entries: Collection[Entry], config: CollectionConfig, *, now_ms: int) -> dict[str, float]:
    """Return what each entry is worth now: its place among its like, in (0, 1], halved with every half-life.

    Metrics of different kinds and tasks do not compare, places do: 1 is the best of its kind and task. What was never
    measured is worth 0.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in entries:
        if (value := _measured(entry, config.metric)) is not None:
            groups.setdefault((entry.kind, entry.lineage.task), []).append(value)
    worth = {}
    for entry in entries:
        value, like = _measured(entry, config.metric), groups.get((entry.kind, entry.lineage.task), [])
        place = 0.0 if value is None else sum(other <= value for other in like) / len(like)
        age_days = max(0, now_ms - entry.created_at_ms) / DAY_MS
        worth[entry.entry_id] = place * 2.0 ** (-age_days / config.half_life_days)
    return worth


def total_bytes(entries: Collection[Entry]) -> int:
    """Return the bytes of the artifacts of these entries, each once."""
    return sum({entry.sha256: entry.size_bytes for entry in entries}.values())


def _measured(entry: Entry, metric: str) -> float | None:
    return next((value for name, value in sorted(entry.worth.items()) if name.endswith(metric)), None)


def _followed(entry_id: str, replaced: Mapping[str, str]) -> str:
    while entry_id in replaced:
        entry_id = replaced[entry_id]
    return entry_id


def _reason(entry: Entry, in_use: Mapping[str, str], alive: Collection[Entry], replaced: Mapping[str, str]) -> str:
    return in_use.get(entry.entry_id) or f"parent of {_child_of(entry, alive, replaced)}"


def _child_of(entry: Entry, alive: Collection[Entry], replaced: Mapping[str, str]) -> str | None:
    """Return the id of a living entry that names this one as its parent, or None."""
    for one in alive:
        if entry.entry_id in {_followed(parent, replaced) for parent in one.lineage.parents}:
            return one.entry_id
    return None
