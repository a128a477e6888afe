"""The one transaction of a flush: every touched row of every view, the ledger, and whatever erasures came with it.

Three threads of thought meet here:

* the ledger's `next_offset` must be the one this process read, else `StaleLedgerError` and nothing is written;
* a row must still carry the stamp (the id of the transaction that wrote it) with which its state was read. Where it
  does not,
  another partition wrote the same entity, or the person was erased: the row is locked and read again, this flush's
  events are applied on it anew, and the entity counts as `foreign`;
* a commit whose answer was lost is recognised by the writer's name in the ledger when the flush is repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time_ns
from typing import Any, Generic, Literal
from uuid import uuid4

import psycopg

from feature_store import freshness
from feature_store.errors import StaleLedgerError, StoreUnavailableError
from feature_store.ledger import Ledger, LedgerTable
from feature_store.rows import Codec, Column, Described, Snapshot, State
from feature_store.tables import Cursor, FeatureTables

Outcome = Literal["applied", "late", "erased"]
ATTEMPTS = 5


@dataclass(slots=True, kw_only=True)
class PartitionFlush:
    """What one batch of one partition did.

    Args:
        topic: Topic consumed.
        partition: Partition consumed.
        next_offset: Offset after the last record of the batch.
        counts: Records of this batch by outcome, any of `ledger.COUNTS`; absent ones are 0.
        event_ids: Ids admitted to the deduplication window, in order.
        applied: Interactions applied to the states, in order; each has user_id, item_id, event_type and event_time_ms.
        appended_at_ms: Kafka timestamps of those whose freshness is measured.
        erasures: (user_id, requested_at_ms) to carry out in the same transaction, before the events.
        sources: For `interactions.by_item`: by clickstream partition, the highest offset applied.
        first_offset: Offset of the first record of the batch, for the point-in-time history.
        flush_id: Names this flush in the ledger, so that a repeat after a lost answer is recognised.
    """

    topic: str
    partition: int
    next_offset: int
    counts: Mapping[str, int] = field(default_factory=dict)
    event_ids: Sequence[str] = ()
    applied: Sequence[Described] = ()
    appended_at_ms: Sequence[int] = ()
    erasures: Sequence[tuple[str, int]] = ()
    sources: Mapping[int, int] = field(default_factory=dict)
    first_offset: int | None = None
    flush_id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(slots=True, kw_only=True)
class PreparedFlush(Generic[State]):
    """A flush with its rows encoded, so that later events do not change what is written."""

    delta: PartitionFlush
    ledger: Ledger
    ids: list[str]  # touched entities, ascending by key
    states: list[State]
    events: list[int]  # of each state, when it was encoded
    keys: list[bytes]
    times_ms: list[int]
    values: dict[Column, list[bytes | None]]
    snapshots: list[Snapshot] | None = None  # for the point-in-time history
    fresh: dict[int, State] = field(default_factory=dict)  # by index, what replaces a state that was not the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushOutcome:
    """What a flush found that its sender could not know.

    Attributes:
        entities: Entities written.
        foreign: Entities whose rows another partition had written meanwhile.
        late: Interactions sent as applied that were late after all, on the newer row; counted so.
        erased: Interactions sent as applied whose person had asked to be forgotten; counted so.
        repeated: Whether the flush had been committed before, and only its answer was lost.
    """

    entities: int
    foreign: int = 0
    late: int = 0
    erased: int = 0
    repeated: bool = False


class _Changed(Exception):  # noqa: N818 - never leaves this module
    """A row's stamp was not the expected one."""


def prepare(
    *,
    delta: PartitionFlush,
    ledger: Ledger,
    touched: Mapping[str, State],
    codec: Codec[State],
    archived: bool = False,
) -> PreparedFlush[State]:
    """Encode what `delta` touched; pure CPU, on the thread that applies events."""
    entries = sorted((state.key, entity_id, state) for entity_id, state in touched.items())
    encode = codec.encode
    encoded = [encode(state) for _, _, state in entries]
    columns: list[tuple[bytes | None, ...]] = list(zip(*encoded, strict=True)) or [()] * len(codec.columns)
    return PreparedFlush(
        delta=delta,
        ledger=ledger,
        ids=[entity_id for _, entity_id, _ in entries],
        states=[state for _, _, state in entries],
        events=[state.events for _, _, state in entries],
        keys=[key for key, _, _ in entries],
        times_ms=[state.last_event_ms for _, _, state in entries],
        values={column: list(values) for column, values in zip(codec.columns, columns, strict=True)},
        snapshots=[codec.snapshot(state) for _, _, state in entries] if archived else None,
    )


class FlushTransaction(Generic[State]):
    """Carries prepared flushes into Postgres, on the thread that owns the connection.

    Args:
        tables: Where states are stored.
        ledgers: Where ledgers are stored.
        owner_of: Gives the entity_id of an interaction.
        reapply: Applies one interaction to a state, or says why not.
        set_erased: Tells a state until when its person is erased; None where entities are not people.
        archive: Called with the prepared flush before the commit; None: nothing is archived.
    """

    def __init__(
        self,
        *,
        tables: FeatureTables[State],
        ledgers: LedgerTable,
        owner_of: Callable[[Described], str],
        reapply: Callable[[State, Described], Outcome],
        set_erased: Callable[[State, int], None] | None,
        archive: Callable[[PreparedFlush[State]], None] | None,
    ) -> None:
        self._tables, self._ledgers = tables, ledgers
        self._owner_of, self._reapply, self._set_erased = owner_of, reapply, set_erased
        self._archive = archive
        self._erased: dict[str, int] = {}  # erasures since this process began, by user_id
        self.last_erasure: int | None = None  # None: not read yet

    def write(self, connection: psycopg.Connection[Any], prepared: PreparedFlush[State]) -> FlushOutcome:
        """Write everything in one transaction.

        Raises:
            StaleLedgerError: If the partition's ledger moved on under another owner; nothing was written.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(connection, prepared, careful=attempt > 0)
            except (_Changed, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
        raise StoreUnavailableError(reason=f"rows changed under {ATTEMPTS} attempts to write them", retry_after_s=0.1)

    def _attempt(
        self, connection: psycopg.Connection[Any], flush: PreparedFlush[State], *, careful: bool
    ) -> FlushOutcome:
        ledger, delta = flush.ledger, flush.delta
        with connection.transaction(), connection.cursor() as cursor:
            row = self._ledgers.lock(cursor, ledger, erasing=bool(delta.erasures))
            if row is not None and row[1] == delta.flush_id:
                return self._recall(cursor, flush, stamp=row[2])
            if row is None or row[0] != ledger.next_offset:
                found = None if row is None else row[0]
                raise StaleLedgerError(
                    topic=ledger.topic, partition=ledger.partition, expected=ledger.next_offset or 0, found=found
                )
            for user_id, requested_at_ms in delta.erasures:
                if self._ledgers.erase(cursor, user_id, requested_at_ms):
                    self._tables.delete(cursor, [self._tables.codec.key_of(user_id)])
            newest = self._take_erasures(cursor)
            fresh, counts, outcome = self._refreshed(cursor, flush, careful=careful)
            flush.fresh = fresh
            self._write_rows(cursor, flush, fresh)
            if self._archive is not None:
                self._archive(flush)
            histogram = freshness.histogram(delta.appended_at_ms, now_ms=time_ns() // 1_000_000)
            chunks = self._write_events(cursor, ledger, delta.event_ids)
            totals = {name: count + counts.get(name, 0) for name, count in ledger.counts.items()}
            sources = {**ledger.sources, **delta.sources}
            summed = [old + new for old, new in zip(ledger.freshness, histogram, strict=True)]
            stamp = self._ledgers.write(
                cursor,
                ledger,
                next_offset=delta.next_offset,
                counts=totals,
                sources=sources,
                histogram=summed,
                writer=delta.flush_id,
            )
        ledger.next_offset, ledger.counts, ledger.sources, ledger.freshness = delta.next_offset, totals, sources, summed
        while ledger.chunks and chunks[0] is not None and ledger.chunks[0][0] <= chunks[0]:
            ledger.chunks.popleft()
        ledger.chunks.extend(chunks[1])
        self.last_erasure = newest
        self._stamp(flush, stamp)
        return outcome

    def _refreshed(
        self, cursor: Cursor, flush: PreparedFlush[State], *, careful: bool
    ) -> tuple[dict[int, State], dict[str, int], FlushOutcome]:
        """Lock and read again what is not as it was when its state was read, and apply this flush's events on it."""
        counts = dict(flush.delta.counts)
        erased = {
            entity_id
            for entity_id, state in zip(flush.ids, flush.states, strict=True)
            if entity_id in self._erased and self._erased_behind(entity_id, state)
        }
        if not (careful or erased):
            return {}, counts, FlushOutcome(entities=len(flush.ids))
        found = self._tables.lock(cursor, flush.keys)
        stale = {
            entity_id: index
            for index, (entity_id, state) in enumerate(zip(flush.ids, flush.states, strict=True))
            if found.get(state.key) != state.stamp or entity_id in erased
        }
        states = self._tables.read(cursor, list(stale))
        if self._set_erased is not None:
            for user_id, until_ms in self._ledgers.erasures_of(cursor, stale).items():
                self._set_erased(states[user_id], until_ms)
        became = {"applied": 0, "late": 0, "erased": 0}
        for interaction in flush.delta.applied:
            if (entity_id := self._owner_of(interaction)) in stale:
                became[self._reapply(states[entity_id], interaction)] += 1
        for name in ("late", "erased"):
            counts[name] = counts.get(name, 0) + became[name]
            counts["applied"] = counts.get("applied", 0) - became[name]
        foreign = len(stale) - len(erased)
        counts["foreign"] = counts.get("foreign", 0) + foreign
        outcome = FlushOutcome(entities=len(flush.ids), foreign=foreign, late=became["late"], erased=became["erased"])
        return {index: states[entity_id] for entity_id, index in stale.items()}, counts, outcome

    def _take_erasures(self, cursor: Cursor) -> int:
        """Learn of the erasures since the last flush; gives the sequence of the newest."""
        newest = self.last_erasure or 0
        if self._set_erased is None:
            return newest
        for sequence, user_id, requested_at_ms in self._ledgers.erasures_since(cursor, newest):
            self._erased[user_id] = requested_at_ms
            newest = max(newest, sequence)
        return newest

    def _erased_behind(self, user_id: str, state: State) -> bool:
        """Tell whether `state` was read before its person was erased."""
        until_ms = self._erased.get(user_id)
        known_ms = getattr(state, "erased_until_ms", None)
        return until_ms is not None and (known_ms is None or known_ms < until_ms)

    def _write_rows(self, cursor: Cursor, flush: PreparedFlush[State], fresh: Mapping[int, State]) -> None:
        stamps = [state.stamp for state in flush.states]
        keys, times_ms, values = flush.keys, flush.times_ms, flush.values
        if fresh:
            codec = self._tables.codec
            for index, state in fresh.items():
                stamps[index] = state.stamp
                times_ms[index] = state.last_event_ms
                for column, value in zip(codec.columns, codec.encode(state), strict=True):
                    values[column][index] = value
                if flush.snapshots is not None:
                    flush.snapshots[index] = codec.snapshot(state)
            # Of someone erased, whose events of this flush were all erased too, there is nothing to write.
            kept = [index for index in range(len(keys)) if index not in fresh or fresh[index].events]
            keys, times_ms = [keys[index] for index in kept], [times_ms[index] for index in kept]
            stamps = [stamps[index] for index in kept]
            values = {column: [column_values[index] for index in kept] for column, column_values in values.items()}
        if keys and not self._tables.write(cursor, keys=keys, times_ms=times_ms, stamps=stamps, values=values):
            raise _Changed

    def _write_events(
        self, cursor: Cursor, ledger: Ledger, event_ids: Sequence[str]
    ) -> tuple[int | None, list[tuple[int, int]]]:
        prunable = ledger.prunable()
        if prunable is not None:
            self._ledgers.prune(cursor, ledger, prunable)
        if not event_ids:
            return prunable, []
        return prunable, [(self._ledgers.append_events(cursor, ledger, event_ids), len(event_ids))]

    def _recall(self, cursor: Cursor, flush: PreparedFlush[State], *, stamp: int) -> FlushOutcome:
        """Catch up with a flush that was committed although its answer was lost."""
        stored = self._ledgers.open(cursor, flush.ledger.topic, flush.ledger.partition)
        for name in ("next_offset", "counts", "sources", "freshness", "chunks"):
            setattr(flush.ledger, name, getattr(stored, name))
        self._stamp(flush, stamp)
        return FlushOutcome(entities=len(flush.ids), foreign=len(flush.fresh), repeated=True)

    def _stamp(self, flush: PreparedFlush[State], stamp: int) -> None:
        """Note the transaction in the states that it wrote; a refreshed one keeps its old stamp until replaced."""
        for index, state in enumerate(flush.states):
            if index in flush.fresh:
                fresh = flush.fresh[index]
                fresh.stamp = stamp if fresh.events else None
                fresh.flushed = fresh.events
            else:
                state.stamp = stamp
                state.flushed = flush.events[index]
