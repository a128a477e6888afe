"""Accumulation: after each released round, what is worth keeping goes into the store, with lineage and measured worth.

- `adapter`: the shared model without its item rows. Nothing in it belongs to one catalogue, so a new market can start
  from it.
- `item_embeddings`: the item vectors that serve, by item_id. Markets that sell the same items meet in them.
- `prototypes`: a few vectors that stand for all items that were met.
- `graph_edges`: what the graph knows by then, where there is one.
- `fisher`, `teacher_logits`, `exemplars`, `user_embeddings`: where they are asked for; see
  `learners.knowledge.deposits`.

All but the graph is a function of the round, so a round that is settled twice after a crash deposits once; the graph is
kept once a release, as it was the first time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from learners.knowledge.collection import CollectionConfig, collect
from learners.knowledge.contents import OF_THE_CATALOGUE, KeyedVectors, encode_rows, encode_tensors, encode_vectors
from learners.knowledge.deposits import further
from learners.knowledge.entry import ABOUT_PEOPLE, Entry, Kind, Lineage
from learners.knowledge.prototypes import prototypes
from learners.knowledge.store import KnowledgeStore
from learners.knowledge.task_vectors import task_vector
from learners.releases.registry import ReleaseRecord
from learners.releases.release import LoadedRelease
from learners.rounds.material import RoundInput

Graph = Callable[[], Sequence[Mapping[str, Any]]]

USUAL: frozenset[Kind] = frozenset({"adapter", "item_embeddings", "prototypes", "graph_edges"})
MOST_PROTOTYPES = 32
_OF_A_START: tuple[Kind, ...] = ("adapter", "item_embeddings")  # what a model that began from entries owes them


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a release left: its entries, and how many older ones had to go for them."""

    entries: tuple[Entry, ...]
    collected: int


class Accumulation:
    """Keep what releases learned, within the store's bound.

    Args:
        store: Where to.
        collection: What may stay.
        task: What the model is for; names the entries' task.
        encoder: Of items' texts; a trunk is of use only beside the same one.
        graph: Gives the rows of `graph_edges`; none are kept where it gives none.
        kinds: What is kept.
    """

    def __init__(
        self,
        store: KnowledgeStore,
        *,
        collection: CollectionConfig,
        task: str = "sequence",
        encoder: str = "",
        graph: Graph = tuple,
        kinds: frozenset[Kind] = USUAL,
    ) -> None:
        self.store, self._kinds = store, kinds
        self._collection, self._task, self._encoder, self._graph = collection, task, encoder, graph

    def keep(self, record: ReleaseRecord, release: LoadedRelease, round_input: RoundInput, *, round_key: str) -> Kept:
        """Deposit what a released round learned; repeat it after any failure.

        Args:
            record: The release's row.
            release: What it serves.
            round_input: What the round learned from.
            round_key: Names the round.

        Raises:
            LearnerError: If store or Postgres refuse; what was deposited before that stays.
        """
        counts = target_counts(round_input)
        embedding = task_vector(round_input.texts, counts, counts).tolist()
        entries = []
        more = further(self._kinds, release, round_input)
        for kind, content in [*self._contents(release, counts), *more, *self._graph_content(record)]:
            if kind not in self._kinds:
                continue
            lineage = Lineage(
                task=self._task,
                model=record.model,
                model_version=record.version,
                offsets=record.offsets,
                parents=self._parents(kind, record, release),
                notes={"round": round_key, "encoder": self._encoder, "width": str(release.model.config.width)},
            )
            entries.append(
                self.store.deposit(
                    content,
                    kind=kind,
                    lineage=lineage,
                    privacy="personal" if kind in ABOUT_PEOPLE else "shop",
                    worth=record.metrics,
                    embedding=embedding,
                )
            )
        done = collect(self.store, self._collection, serving=_used_by(record))
        return Kept(entries=tuple(entries), collected=len(done.removed))

    def _contents(self, release: LoadedRelease, counts: np.ndarray[Any, Any]) -> list[tuple[Kind, bytes]]:
        state = {name: value for name, value in release.model.state_dict().items() if name != OF_THE_CATALOGUE}
        vectors = release.item_matrix[1:]
        found: list[tuple[Kind, bytes]] = [
            ("adapter", encode_tensors(state)),
            ("item_embeddings", encode_vectors(KeyedVectors(tuple(release.item_ids[1:]), vectors))),
        ]
        met = vectors[counts[1:] > 0]
        if len(met):
            centres, groups = prototypes(met, MOST_PROTOTYPES)
            sizes = np.bincount(groups, minlength=len(centres))
            keys = tuple(f"{number:02d} of {size} items" for number, size in enumerate(sizes))
            found.append(("prototypes", encode_vectors(KeyedVectors(keys, centres))))
        return found

    def _graph_content(self, record: ReleaseRecord) -> list[tuple[Kind, bytes]]:
        """The graph as it is, unless the release has kept one."""
        if "graph_edges" not in self._kinds or self._of("graph_edges", record.model, record.version):
            return []
        edges = self._graph()
        return [("graph_edges", encode_rows(edges))] if edges else []

    def _parents(self, kind: Kind, record: ReleaseRecord, release: LoadedRelease) -> tuple[str, ...]:
        """The entries of the same kind that the release's parent left; of a first one, those that it began from."""
        if kind == "graph_edges":
            return ()
        if record.parent is None:
            start = release.manifest.get("facts", {}).get("start", {})
            return tuple(start.get("parents", ())) if kind in _OF_A_START else ()
        return tuple(entry.entry_id for entry in self._of(kind, record.model, record.parent))

    def _of(self, kind: Kind, model: str, version: int) -> list[Entry]:
        """The entries of a kind that a release left."""
        return [
            entry
            for entry in self.store.entries(kind=kind, task=self._task)
            if (entry.lineage.model, entry.lineage.model_version) == (model, version)
        ]


def target_counts(round_input: RoundInput) -> np.ndarray[Any, Any]:
    """How often each item was to be predicted in the round, [N]."""
    learned = round_input.tokens[:, 1:][round_input.loss_mask]
    counts: np.ndarray[Any, Any] = np.bincount(learned, minlength=len(round_input.item_ids))
    return counts


def _used_by(record: ReleaseRecord) -> Callable[[Entry], str | None]:
    """What the release and the one that it can be rolled back to left must stay."""

    def reason(entry: Entry) -> str | None:
        lineage = entry.lineage
        if lineage.model != record.model or lineage.model_version is None:
            return None
        versions = (record.version, record.parent)
        return f"used by release {lineage.model_version}" if lineage.model_version in versions else None

    return reason
