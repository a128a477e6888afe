"""What a worker ranks with: the catalogue, its replica of fast memory and mixture, and the release it serves.

Everything here runs on the ranking thread, one call after another, so a ranking sees no half-applied update.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from learners.errors import LearnerError
from learners.fast_memory.wire import ExpertUpdate as ExpertPayload
from learners.items.catalog import Catalog
from learners.ranking.ranker import Ranked, Ranker, RankerConfig, RankRequest
from learners.releases.release import load_release
from streams import worker_metrics
from streams.batches import RecordBatch
from streams.events import CatalogItem, ExpertUpdate, Release
from streams.learning.item_vectors import ITEM_VECTORS, decode_item_vector
from streams.validation import RejectedEvent, rejection

log = structlog.get_logger(__name__)

_decode_item = msgspec.json.Decoder(CatalogItem).decode
_decode_update = msgspec.json.Decoder(ExpertUpdate).decode
_decode_release = msgspec.json.Decoder(Release).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A release that this worker began to serve."""

    version: int
    sequence: int
    kind: str
    triggered_at_ms: int
    swapped_at_ms: int


class Recommender:
    """Ranks the catalogue for people; follows catalogue, experts and releases.

    Args:
        config: Of the ranker; the same as the learner's, or workers rank differently from what is measured.
    """

    def __init__(self, *, config: RankerConfig | None = None) -> None:
        self.catalog = Catalog()
        self.swaps: list[Swap] = []
        self._ranker = Ranker(catalog=self.catalog, config=config)
        self._sequence = 0
        self._newest: Release | None = None

    @property
    def model_version(self) -> int:
        """The release that ranks; 0 before the first."""
        return self._ranker.model_version

    def category_and_brand(self, item_id: str) -> tuple[str | None, str | None]:
        """The widest category and the brand of an item, None where the catalogue does not say."""
        index = self.catalog.index_of(item_id)
        if not index:
            return None, None
        path = self.catalog.category_of(index)
        return (path[0] if path else None), self.catalog.brand_of(index)

    def title_of(self, item_id: str) -> str:
        """How people call an item; empty where the catalogue does not say."""
        index = self.catalog.index_of(item_id)
        return self.catalog.title_of(index) if index else ""

    def rank(self, requests: Sequence[RankRequest], k: int) -> tuple[int, list[list[Ranked]]]:
        """The version that ranked, and at most `k` items per request, best first."""
        started = time.perf_counter()
        rankings = self._ranker.rank(requests, k)
        worker_metrics.RANKING_SECONDS.observe(time.perf_counter() - started)
        return self._ranker.model_version, rankings

    def take_catalog(self, batch: RecordBatch) -> list[RejectedEvent]:
        """List, replace and delist what a run of `catalog.items` says; returns what was unreadable."""
        rejected = []
        for place, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            try:
                if value is None:
                    self.catalog.delist((key or b"").decode())
                    continue
                item = _decode_item(value)
                self.catalog.upsert(
                    item.item_id,
                    title=item.title,
                    description=item.description,
                    category=item.category,
                    brand=item.brand,
                    price=item.price,
                    attributes=item.attributes,
                )
            except (msgspec.MsgspecError, ValueError) as exc:
                rejected.append(rejection(batch, place, exc))
        worker_metrics.ITEMS_KNOWN.set(len(self.catalog) - 1)
        return rejected

    def take_updates(self, batch: RecordBatch) -> int:
        """Put a run of `experts.updates` into the replica; returns how many were not understood."""
        unknown = 0
        for value in batch.values:
            if value is None:
                continue  # a key that its expert gave up; what replaced it comes under its own key
            try:
                update = _decode_update(value)
                if update.expert == ITEM_VECTORS:
                    self._ranker.describe(update.key, *decode_item_vector(update.payload))
                elif not self._ranker.apply(ExpertPayload(update.expert, update.key, bytes(update.payload))):
                    unknown += 1
            except (msgspec.MsgspecError, ValueError) as exc:
                log.warning("expert_update_unreadable", error=str(exc), partition=batch.partition)
                unknown += 1
        return unknown

    def take_releases(self, batch: RecordBatch) -> None:
        """Note the newest release of a run of `models.releases`; `swap` serves it."""
        for value in batch.values:
            try:
                release = _decode_release(value or b"")
            except (msgspec.MsgspecError, ValueError) as exc:
                worker_metrics.SHARED_REJECTED.labels(batch.topic).inc()
                log.warning("release_unreadable", error=str(exc))
                continue
            if release.sequence > (self._newest.sequence if self._newest else self._sequence):
                self._newest = release

    def swap(self) -> Swap | None:
        """Load, verify and warm up the newest release, then serve it by one reference; None where there is nothing new.

        A release that cannot be loaded is refused: the incumbent goes on serving.
        """
        release = self._newest
        if release is None or release.sequence <= self._sequence:
            return None
        try:
            loaded = load_release(release.uri, sha256=release.sha256)
        except (LearnerError, OSError):
            worker_metrics.RELEASES_REFUSED.inc()
            log.exception("release_refused", version=release.version, sequence=release.sequence)
            return None
        loaded.encode_users([[]])
        self._ranker.adopt(loaded)
        self._sequence = release.sequence
        worker_metrics.MODEL_VERSION.set(release.version)
        swap = Swap(
            version=release.version,
            sequence=release.sequence,
            kind=release.kind,
            triggered_at_ms=release.triggered_at_ms,
            swapped_at_ms=time.time_ns() // 1_000_000,
        )
        self.swaps.append(swap)
        log.info("release_swapped", version=swap.version, sequence=swap.sequence, kind=swap.kind)
        return swap
