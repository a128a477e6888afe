"""User features as a worker uses them: load, apply, flush.

    features = UserFeatures(postgres_url=..., cluster_id=..., allowed_lateness_ms=3_600_000)
    ledger = features.open("clickstream.events", 0)            # on assignment; read on from ledger.next_offset
    features.load(0, user_ids)                                 # before a batch is applied
    if ledger.admit(event_id):                                 # else it is a duplicate
        features.apply(0, user_id, item_id, event_type, event_time_ms)       # -> "applied" | "late" | "erased"
    features.flush(PartitionFlush(topic=..., partition=0, next_offset=..., counts={"received": 5000, ...},
                                  event_ids=[admitted], applied=[interactions], appended_at_ms=[...]))
    features.close("clickstream.events", 0)                    # on revocation, and after StaleLedgerError

Everything but `missing`, `apply`, `state` and `prepare` blocks on Postgres and belongs on one dedicated thread.
`flush` is `settle(write(prepare(delta)))`; a caller that wants to apply the next batch while Postgres works calls the
three itself:

    prepared = features.prepare(delta)                         # event loop: encodes the rows as they are now
    outcome = await on_store_thread(features.write, prepared)  # Postgres; in the order of the offsets
    features.settle(prepared)                                  # event loop

and likewise `load` is `put(partition, read(missing(partition, user_ids)))`. A state may be applied to between
`prepare` and `settle`. `StoreUnavailableError` leaves everything as it was: repeat `write` with the same object (or
`flush` with the same delta object).
"""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from feature_store.errors import FeatureSettingError, NotLoadedError
from feature_store.items import ItemState
from feature_store.partitions import PartitionedFeatures
from feature_store.rows import Described, item_codec, user_codec
from feature_store.transaction import FlushOutcome, Outcome, PartitionFlush, PreparedFlush
from feature_store.users import LAST_EVENT_MS, UserState

__all__ = ["FlushOutcome", "ItemFeatures", "Outcome", "PartitionFlush", "PreparedFlush", "UserFeatures"]

Describe = Callable[[str], tuple[str | None, str | None]]


class UserFeatures(PartitionedFeatures[UserState]):
    """Features of people, owned by whoever consumes their partition of `clickstream.events`.

    Args:
        postgres_url: As libpq takes it; `feature_store.apply.apply` has run on it.
        cluster_id: Identity of the Kafka cluster.
        allowed_lateness_ms: An event older than its person's newest by more than this is late; at least 0.
        project: Feast project.
        cache_users: Most states cached, over all partitions; at least 1.
        dedupe_window: Most event_ids remembered per partition; at least 1.
        history_length: Most interactions kept per person; at least 1.
        describe: Gives the (category, brand) of an item_id, either may be None; without it there are no affinities.
        history_dir: Folder of the point-in-time history; None: none is written.
    """

    def __init__(
        self,
        *,
        postgres_url: str,
        cluster_id: str,
        allowed_lateness_ms: int,
        project: str = "alluvium",
        cache_users: int = 200_000,
        dedupe_window: int = 50_000,
        history_length: int = 50,
        describe: Describe | None = None,
        history_dir: Path | None = None,
    ) -> None:
        if allowed_lateness_ms < 0:
            raise FeatureSettingError(setting="allowed_lateness_ms", value=allowed_lateness_ms, expected="at least 0")
        if history_length < 1:
            raise FeatureSettingError(setting="history_length", value=history_length, expected="at least 1")
        self._lateness_ms = allowed_lateness_ms
        self._describe = describe
        super().__init__(
            postgres_url=postgres_url,
            project=project,
            cluster_id=cluster_id,
            capacity=cache_users,
            dedupe_window=dedupe_window,
            codec=user_codec(history_length=history_length),
            owner_of=_USER_OF,
            reapply=self._reapply,
            set_erased=_erase_until,
            history_dir=history_dir,
        )

    def apply(self, partition: int, user_id: str, item_id: str, event_type: str, event_time_ms: int) -> Outcome:
        """Apply one event to its person's state, unless it is late or they are erased. Does not block; about 2 us.

        Raises:
            NotLoadedError: If the state was not loaded.
            NotOpenError: If the partition is not open.
        """
        try:
            state = self._cache_of[partition].states[user_id]
        except KeyError:
            self._cache(partition)
            raise NotLoadedError(key=user_id, partition=partition) from None
        return self._take(state, item_id, event_type, event_time_ms)

    def _take(self, state: UserState, item_id: str, event_type: str, event_time_ms: int) -> Outcome:
        if state.erased_until_ms is not None and event_time_ms <= state.erased_until_ms:
            return "erased"
        if event_time_ms < state.counts[LAST_EVENT_MS] - self._lateness_ms:
            return "late"
        if self._describe is None:
            state.apply(item_id, event_type, event_time_ms)
        else:
            state.apply(item_id, event_type, event_time_ms, *self._describe(item_id))
        return "applied"

    def _reapply(self, state: UserState, interaction: Described) -> Outcome:
        return self._take(state, interaction.item_id, interaction.event_type, interaction.event_time_ms)

    def erase(self, user_id: str, requested_at_ms: int, topic: str, partition: int) -> bool:  # noqa: ARG002
        """Delete a person's rows in every view and record until when they are erased, in one transaction. Blocks.

        Repeating it is harmless, and what the person did after `requested_at_ms` is kept by a repeat. Call it between
        the batches of the person's partition; in mid-batch the next flush sorts it out, counting their events as
        erased then.

        Args:
            user_id: Who asked.
            requested_at_ms: Their events up to this time are forgotten.
            topic: Topic whose partition the person is on.
            partition: That partition; its cached state is forgotten too. It need not be open.

        Returns:
            Whether this was news; False for a repeat.
        """
        with self._store() as connection, connection.transaction(), connection.cursor() as cursor:
            known_ms = self._ledgers.erasures_of(cursor, [user_id]).get(user_id)
            # Whoever starts reads every request there ever was, so a known one must not cost the lock.
            news = (known_ms is None or known_ms < requested_at_ms) and self._ledgers.erase(
                cursor, user_id, requested_at_ms
            )
            if news:
                self._tables.delete(cursor, [self._tables.codec.key_of(user_id)])
        if self._history is not None:
            self._history.erase(user_id, requested_at_ms)
        self._forget(partition, user_id, requested_at_ms)
        return news

    def _forget(self, partition: int, user_id: str, requested_at_ms: int) -> None:
        """Let the cache follow an erasure, whichever worker carried it out."""
        cache = self._cache_of.get(partition)
        state = cache.states.get(user_id) if cache is not None else None
        if cache is None or state is None:
            return
        if state.erased_until_ms is not None and state.erased_until_ms >= requested_at_ms:
            return  # read after the erasure
        if state.events == state.flushed:
            cache.states[user_id] = self.read([user_id])[user_id]
        else:
            state.clear()  # the flush of what is not flushed reads the row again


class ItemFeatures(PartitionedFeatures[ItemState]):
    """Features of items, owned by whoever consumes their partition of `interactions.by_item`.

    The same calls as `UserFeatures`. An interaction has had its effect where its offset is not above
    `ledger.sources.get(interaction.partition, -1)`: drop it as a duplicate; in the flush, `sources` gives the highest
    offsets applied.

    Args:
        postgres_url: As libpq takes it; `feature_store.apply.apply` has run on it.
        cluster_id: Identity of the Kafka cluster.
        project: Feast project.
        cache_items: Most states cached, over all partitions; at least 1.
        history_dir: Folder of the point-in-time history; None: none is written.
    """

    def __init__(
        self,
        *,
        postgres_url: str,
        cluster_id: str,
        project: str = "alluvium",
        cache_items: int = 100_000,
        history_dir: Path | None = None,
    ) -> None:
        super().__init__(
            postgres_url=postgres_url,
            project=project,
            cluster_id=cluster_id,
            capacity=cache_items,
            dedupe_window=1,
            codec=item_codec(),
            owner_of=_ITEM_OF,
            reapply=_apply_item,
            set_erased=None,
            history_dir=history_dir,
        )

    def apply(self, partition: int, item_id: str, event_type: str, event_time_ms: int) -> None:
        """Apply one event to its item's state. Does not block; about 1 us.

        Raises:
            NotLoadedError: If the state was not loaded.
            NotOpenError: If the partition is not open.
        """
        try:
            state = self._cache_of[partition].states[item_id]
        except KeyError:
            self._cache(partition)
            raise NotLoadedError(key=item_id, partition=partition) from None
        state.apply(event_type, event_time_ms)


def _apply_item(state: ItemState, interaction: Described) -> Outcome:
    state.apply(interaction.event_type, interaction.event_time_ms)
    return "applied"


def _erase_until(state: UserState, until_ms: int) -> None:
    state.erased_until_ms = until_ms


_USER_OF: Callable[[Described], str] = attrgetter("user_id")
_ITEM_OF: Callable[[Described], str] = attrgetter("item_id")
