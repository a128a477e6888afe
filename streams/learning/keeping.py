"""What outlives the models: released rounds go into the knowledge store, interactions and catalogue into the graph.

Keeping must never stop learning: whatever goes wrong here is logged and counted, unless Postgres is away, which the
process waits for as it does everywhere. Forgetting a person is no such thing: if it fails, the process ends, and its
next start repeats it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from learners.errors import LearnerError
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.donors import Donor, DonorSource
from learners.knowledge.errors import KnowledgeUnavailableError
from learners.knowledge.forgetting import forget
from learners.knowledge.graph import CatalogueChange, CatalogueItem, KnowledgeGraph
from learners.releases.registry import ReleaseRecord
from learners.releases.release import load_release
from learners.rounds.material import RoundInput
from streams.batches import RecordBatch
from streams.events import CatalogItem, Interaction

log = structlog.get_logger(__name__)

_decode_item = msgspec.json.Decoder(CatalogItem).decode


class Keeping:
    """Keep knowledge, where there is a place for it. All calls block: make them from one dedicated thread.

    Args:
        accumulation: Keeps released rounds; None: they are not kept.
        graph: Grows; None: it does not.
        reuse: Finds what a first round may start from; None: it starts from scratch.
    """

    def __init__(
        self,
        *,
        accumulation: Accumulation | None = None,
        graph: KnowledgeGraph | None = None,
        reuse: DonorSource | None = None,
    ) -> None:
        self._accumulation, self._graph, self._reuse = accumulation, graph, reuse
        self.counts: Counter[str] = Counter()

    @property
    def grows(self) -> bool:
        """Whether interactions and catalogue are wanted."""
        return self._graph is not None

    def prepare(self, cluster_id: str) -> None:
        """Create what is missing. Where the database cannot hold the store, that is said, and no round is kept.

        Args:
            cluster_id: Of the Kafka that offsets belong to.
        """
        if self._graph is not None:
            self._graph.cluster_id = cluster_id
            self._graph.create()
        stores = [each.store for each in (self._accumulation, self._reuse) if each is not None]
        try:
            for store in stores:
                store.create()
        except KnowledgeUnavailableError:
            raise
        except LearnerError as error:  # no pgvector, no permission
            log.warning("knowledge_not_kept", error=str(error))
            self._accumulation = self._reuse = None

    def donors(self, round_input: RoundInput) -> list[Donor]:
        """Return what a round may start from: kept entries whose tasks are most like it; nothing if it has a release.

        What cannot be used is among them, with the reason, which is logged; a store that refuses has nothing to give.
        """
        if self._reuse is None or round_input.incumbent is not None:
            return []
        try:
            found = self._reuse.of(round_input)
        except KnowledgeUnavailableError:
            raise
        except LearnerError as error:
            log.warning("knowledge_not_reused", error=str(error))
            return []
        for donor in found:
            if donor.refused:
                self.counts["donors_refused"] += 1
                log.warning("knowledge_donor_refused", entry=donor.entry.entry_id, error=donor.refused)
        return found

    def keep(self, record: ReleaseRecord, round_input: RoundInput, *, round_key: str) -> None:
        """Keep what a released round learned, and prune the graph; the same round again changes nothing."""
        if self._graph is not None:
            self.counts["graph_pruned"] += self._graph.prune()
        if self._accumulation is None:
            return
        try:
            release = load_release(record.uri, sha256=record.sha256)
            kept = self._accumulation.keep(record, release, round_input, round_key=round_key)
        except KnowledgeUnavailableError:
            raise
        except LearnerError as error:
            self.counts["rounds_not_kept"] += 1
            log.warning("knowledge_not_kept", round=round_key, version=record.version, error=str(error))
            return
        self.counts["entries"] += len(kept.entries)
        self.counts["entries_collected"] += kept.collected
        log.info("knowledge_kept", version=record.version, entries=len(kept.entries), collected=kept.collected)

    def forget(self, requests: Mapping[str, int]) -> None:
        """Forget people, up to the time (ms) of each one's request."""
        if self._graph is not None:
            self._graph.forget(requests)
        if self._accumulation is not None:
            forgotten = forget(self._accumulation.store, requests)
            if forgotten.replaced or forgotten.removed:
                log.info("knowledge_redacted", entries=len(forgotten.replaced), removed=len(forgotten.removed))

    def grow(self, interactions: Sequence[Interaction]) -> None:
        """Take interactions into the graph, each once."""
        if self._graph is not None and interactions:
            self.counts["graph_interactions"] += self._graph.apply(interactions)

    def take_catalogue(self, batch: RecordBatch) -> None:
        """Take a run of `catalog.items` into the graph, each record once; unreadable ones are passed over."""
        if self._graph is not None and (changes := catalogue_changes(batch)):
            self.counts["graph_items"] += self._graph.take_catalogue(changes)


def catalogue_changes(batch: RecordBatch) -> list[CatalogueChange]:
    """Return what a run of `catalog.items` says to the graph."""
    changes = []
    for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
        try:
            item = None if value is None else _decode_item(value)
            item_id = (key or b"").decode() if item is None else item.item_id
        except (msgspec.MsgspecError, ValueError):
            continue
        said = None
        if item is not None:
            said = CatalogueItem(item_id=item_id, category=item.category, brand=item.brand, attributes=item.attributes)
        changes.append(CatalogueChange(item_id=item_id, item=said, partition=batch.partition, offset=offset))
    return changes
