"""A worker's parts and its life: built before Faust starts, ready once it has caught up, stopped in order."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from feature_store.flush import ItemFeatures, UserFeatures
from learners.knowledge.graph import KnowledgeGraph
from learners.ranking.ranker import RankerConfig
from streams import worker_metrics
from streams.active_users import ActiveUsers
from streams.batches import RecordBatch
from streams.clients import KafkaConnection, cluster_id
from streams.dead_letters import letters, shortened
from streams.erasures import decode_erasure
from streams.graph_reasons import GraphReasons
from streams.item_features import ItemIngest
from streams.outbox import Outbox
from streams.publisher import Publisher
from streams.rankings import Rankings
from streams.recommender import Recommender
from streams.shared import SharedTopics
from streams.threads import DedicatedThread
from streams.topics import (
    CATALOG_ITEMS,
    CLICKSTREAM_EVENTS,
    EXPERTS_UPDATES,
    INTERACTIONS_BY_ITEM,
    MODELS_RELEASES,
    USERS_ERASURES,
)
from streams.user_features import UserIngest
from streams.validation import RejectedEvent, rejection

log = structlog.get_logger(__name__)

RETRY_SWAP_S = 10.0


class Worker:
    """Everything that the agents of `streams/app.py` use.

    Args:
        connection: Where Kafka is.
        cluster_id: Identity of the Kafka cluster: offsets of another one mean nothing here.
        postgres_url: Where Feast's online store and the ledger are.
        allowed_lateness_ms: See `streams.ingest.sort_out`.
        allowed_skew_ms: See `streams.validation.validate`.
        dedupe_window: event_ids remembered per partition.
        cache_users: User states in memory.
        cache_items: Item states in memory.
        history_length: Interactions kept per user.
        history_dir: Where point-in-time history is written; None: nowhere.
        top_k: Length of a ranking.
        max_users: People ranked at once.
        ranking_linger_ms: Least time between two refreshes.
        ranker: The ranker's settings; the learner's are the same.
        graph: Where rankings find reasons in words; None: nowhere.
    """

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        cluster_id: str,
        postgres_url: str,
        allowed_lateness_ms: int,
        allowed_skew_ms: int,
        dedupe_window: int = 50_000,
        cache_users: int = 200_000,
        cache_items: int = 100_000,
        history_length: int = 50,
        history_dir: Path | None = None,
        top_k: int = 20,
        max_users: int = 256,
        ranking_linger_ms: int = 200,
        ranker: RankerConfig | None = None,
        graph: KnowledgeGraph | None = None,
    ) -> None:
        self.connection = connection
        self.allowed_skew_ms, self.max_users, self.linger_s = allowed_skew_ms, max_users, ranking_linger_ms / 1000
        self._threads = {
            name: DedicatedThread(name) for name in ("user-store", "user-reads", "item-store", "ranking", "graph")
        }
        self._ranking = self._threads["ranking"]
        self.publisher = Publisher(connection=connection, client_id="alluvium-worker")
        self.recommender = Recommender(config=ranker)
        self.shared = SharedTopics(connection=connection)
        self.active_users = ActiveUsers()
        users = UserFeatures(
            postgres_url=postgres_url,
            cluster_id=cluster_id,
            allowed_lateness_ms=allowed_lateness_ms,
            cache_users=cache_users,
            dedupe_window=dedupe_window,
            history_length=history_length,
            describe=self.recommender.category_and_brand,
            history_dir=history_dir,
        )
        items = ItemFeatures(
            postgres_url=postgres_url, cluster_id=cluster_id, cache_items=cache_items, history_dir=history_dir
        )
        self.users = UserIngest(
            features=users,
            thread=self._threads["user-store"],
            reading=self._threads["user-reads"],
            applied=self.active_users.note,
        )
        self.items = ItemIngest(features=items, thread=self._threads["item-store"], publisher=self.publisher)
        self.outbox = Outbox(self.publisher)
        self.rankings = Rankings(
            recommender=self.recommender,
            users=self.users,
            publisher=self.publisher,
            ranking_thread=self._ranking,
            top_k=top_k,
            reasons=None if graph is None else GraphReasons(graph),
            reasons_thread=self._threads["graph"],
        )
        self.owned: set[tuple[str, int]] = set()
        self._released, self._swapped = asyncio.Event(), asyncio.Event()
        self._followers: Mapping[str, Callable[[RecordBatch], Any]] = {
            CATALOG_ITEMS: self._follow_catalog,
            USERS_ERASURES: self._follow_erasures,
            MODELS_RELEASES: self._follow_releases,
            EXPERTS_UPDATES: self._follow_experts,
        }

    @classmethod
    async def create(cls, *, connection: KafkaConnection, **settings: Any) -> Self:
        """A worker for the cluster that answers at `connection`, its publisher started."""
        worker = cls(connection=connection, cluster_id=await cluster_id(connection), **settings)
        await worker.publisher.start()
        return worker

    async def stop(self) -> None:
        """Let running calls end, then close."""
        await self.publisher.stop()
        await self.users.stop()
        await self.items.stop()
        for thread in self._threads.values():
            thread.stop()

    # Partitions

    async def start_offset(self, topic: str, partition: int) -> int | None:
        """Where the ledger says to read on; asked at every assignment."""
        match topic:
            case _ if topic == CLICKSTREAM_EVENTS:
                offset = await self.users.open(partition)
            case _ if topic == INTERACTIONS_BY_ITEM:
                offset = await self.items.open(partition)
            case _:
                return None
        self.owned.add((topic, partition))
        return offset

    async def revoke(self, partitions: set[tuple[str, int]]) -> None:
        """Forget partitions that were taken away."""
        for topic, partition in partitions & self.owned:
            self.owned.discard((topic, partition))
            if topic == CLICKSTREAM_EVENTS:
                await self.users.close(partition)
            elif topic == INTERACTIONS_BY_ITEM:
                await self.items.close(partition)

    # Shared topics

    async def follow(self, batch: RecordBatch) -> None:
        """Take in a run of a shared topic."""
        await self._followers[batch.topic](batch)
        worker_metrics.SHARED_RECORDS.labels(batch.topic).inc(len(batch))

    async def _follow_catalog(self, batch: RecordBatch) -> None:
        await self._reject(await self._ranking.run(self.recommender.take_catalog, batch))

    async def _follow_erasures(self, batch: RecordBatch) -> None:
        partition_of = await self.publisher.partitioner(CLICKSTREAM_EVENTS)
        rejected = []
        for place, value in enumerate(batch.values):
            try:
                user_id, requested_at_ms = decode_erasure(value or b"")
            except (msgspec.MsgspecError, ValueError) as exc:
                rejected.append(rejection(batch, place, exc))
                continue
            if await self.users.erase(user_id, requested_at_ms, partition_of(user_id.encode())):
                self.active_users.forget(user_id)
                log.info("user_erased", requested_at_ms=requested_at_ms)
        await self._reject(rejected)

    async def _follow_releases(self, batch: RecordBatch) -> None:
        await self._ranking.run(self.recommender.take_releases, batch)
        self._released.set()

    async def _follow_experts(self, batch: RecordBatch) -> None:
        unknown = await self._ranking.run(self.recommender.take_updates, batch)
        worker_metrics.SHARED_REJECTED.labels(batch.topic).inc(unknown)

    async def swap_releases(self) -> None:
        """Serve the newest release whenever there is one, and rank those last active anew; runs for ever."""
        await self.shared.complete()  # or a worker that starts would load every release there ever was
        while True:
            self._released.clear()
            swap = await self._ranking.run(self.recommender.swap)
            if swap is not None:
                self.active_users.refresh(f"release-{swap.sequence}")
            self._swapped.set()
            with contextlib.suppress(TimeoutError):  # a release that could not be loaded is tried again
                async with asyncio.timeout(RETRY_SWAP_S):
                    await self._released.wait()

    async def _reject(self, rejected: list[RejectedEvent]) -> None:
        """Every worker reads shared topics; who owns the clickstream partition of that number writes the letter."""
        for letter in rejected:
            worker_metrics.SHARED_REJECTED.labels(letter.topic).inc()
            log.warning("shared_record_rejected", topic=letter.topic, offset=letter.offset, reason=letter.reason)
        mine = [r for r in rejected if (CLICKSTREAM_EVENTS, r.partition) in self.owned]
        if mine:
            await self.publisher.send(letters(mine), shorten=shortened)

    # What it says of itself

    def waits_for(self) -> str | None:
        """Why this worker is not ready yet; None when it is."""
        if not self.shared.is_complete:
            return "has not caught up with the shared topics"
        if not self._swapped.is_set():
            return "has not loaded the newest release"
        if not self.owned:
            return "has no partitions yet"
        return None

    def progress(self) -> dict[str, Any]:
        """For `/progress`."""
        worker_metrics.ACTIVE_USERS_WAITING.set(len(self.active_users))
        worker_metrics.ACTIVE_USERS_LET_GO.set(self.active_users.let_go)
        return {
            "model_version": self.recommender.model_version,
            "swaps": [msgspec.to_builtins(swap) for swap in self.recommender.swaps],
            "processed": {"clickstream": self.users.processed, "by_item": self.items.processed},
            "rankings": self.rankings.published,
            "active_users": {"waiting": len(self.active_users), "let_go": self.active_users.let_go},
            "items": len(self.recommender.catalog) - 1,
            "partitions": sorted(f"{topic}-{partition}" for topic, partition in self.owned),
        }
