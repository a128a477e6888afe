"""Accumulation: a released round leaves what the next task can start from, once, and within the bound."""

from pathlib import Path

import numpy as np
import pytest
import torch

from learners.knowledge.accumulation import Accumulation
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import decode_rows, decode_tensors, decode_vectors
from learners.knowledge.prototypes import prototypes
from learners.knowledge.store import KnowledgeStore
from learners.knowledge.task_vectors import label_statistics, task_vector
from learners.model import SharedModel
from learners.registry import ReleaseRecord
from learners.releases import LoadedRelease
from learners.round_input import RoundInput
from tests.learners.knowledge_data import open_store
from tests.learners.rounds_data import SHAPE, ring

PLENTY = CollectionConfig(max_bytes=10**9)
EDGES = [{"source": "item:a", "relation": "co_view", "target": "item:b", "weight": 1.5, "last_time_ms": 7}]


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def released(round_input: RoundInput, version: int) -> tuple[ReleaseRecord, LoadedRelease]:
    torch.manual_seed(version)
    model = SharedModel(SHAPE, capacity=64)
    matrix = torch.randn(len(round_input.item_ids), SHAPE.width)
    matrix[0] = 0
    release = LoadedRelease(
        version=version, item_ids=round_input.item_ids, model=model, item_matrix=matrix, manifest={}
    )
    record = ReleaseRecord(
        model="shared_model",
        version=version,
        sequence=version,
        kind="release",
        uri="file:///nowhere",
        sha256="",
        parent=version - 1 or None,
        offsets={"0": 100 * version},
        metrics={"newest_ndcg_10": 0.1 * version},
        verdict={},
        triggered_at_ms=1,
        released_at_ms=2,
    )
    return record, release


def test_a_release_leaves_everything_that_outlives_it(store: KnowledgeStore) -> None:
    round_input = ring()
    record, release = released(round_input, 1)
    accumulation = Accumulation(store, collection=PLENTY, task="sequence/uk", encoder="hash", graph=lambda: EDGES)

    kept = accumulation.keep(record, release, round_input, round_key="a-1")

    by_kind = {entry.kind: entry for entry in kept.entries}
    assert list(by_kind) == ["adapter", "item_embeddings", "prototypes", "graph_edges"]
    assert kept.collected == 0
    for entry in kept.entries:
        assert (entry.privacy, entry.lineage.task, entry.lineage.model_version) == ("shop", "sequence/uk", 1)
        assert entry.lineage.offsets == {"0": 100}
        assert entry.lineage.notes == {"round": "a-1", "encoder": "hash", "width": str(SHAPE.width)}
        assert entry.worth == {"newest_ndcg_10": 0.1}
        assert len(entry.embedding) == SHAPE.text_width + 6
    trunk = decode_tensors(store.read(by_kind["adapter"].entry_id))
    assert "id_embedding.weight" not in trunk
    other_market = SharedModel(SHAPE, capacity=9)
    missing = other_market.load_state_dict(trunk, strict=False).missing_keys
    assert missing == ["id_embedding.weight"]
    items = decode_vectors(store.read(by_kind["item_embeddings"].entry_id))
    assert items.keys == tuple(round_input.item_ids[1:])
    assert np.array_equal(items.vectors, release.item_matrix[1:])
    assert decode_rows(store.read(by_kind["graph_edges"].entry_id)) == EDGES
    assert 2 <= len(decode_vectors(store.read(by_kind["prototypes"].entry_id)).keys) <= 32


def test_a_round_that_is_settled_twice_deposits_once_and_the_next_names_its_parents(store: KnowledgeStore) -> None:
    round_input, accumulation = ring(), Accumulation(store, collection=PLENTY)

    def keep(version: int) -> dict[str, str]:
        record, release = released(round_input, version)
        kept = accumulation.keep(record, release, round_input, round_key=f"a-{version}")
        return {entry.kind: entry.entry_id for entry in kept.entries}

    first = keep(1)
    assert keep(1) == first
    assert len(store.entries()) == len(first) == 3
    second = keep(2)
    for kind, entry_id in second.items():
        assert store.show(entry_id).lineage.parents == (first[kind],)


def test_old_releases_make_room_for_new_ones_but_not_the_one_that_can_be_returned_to(store: KnowledgeStore) -> None:
    round_input = ring()
    one = Accumulation(store, collection=PLENTY).keep(*released(round_input, 1), round_input, round_key="a-1")
    size = sum(entry.size_bytes for entry in one.entries)
    accumulation = Accumulation(store, collection=CollectionConfig(max_bytes=2 * size + 100))

    collected = [
        accumulation.keep(*released(round_input, version), round_input, round_key="a").collected
        for version in (2, 3, 4)
    ]

    assert collected == [0, 3, 3]
    assert {entry.lineage.model_version for entry in store.entries()} == {3, 4}


def test_a_market_like_another_has_a_vector_like_its(store: KnowledgeStore) -> None:
    rng = np.random.default_rng(0)
    kitchen, garden = rng.normal(size=(2, 8))

    def market(centre: np.ndarray, skew: float, seed: int) -> np.ndarray:
        local = np.random.default_rng(seed)
        texts = (centre + 0.3 * local.normal(size=(50, 8))).astype(np.float32)
        counts = np.maximum(1, (1_000 * local.permutation(np.arange(1, 51) ** -skew))).astype(np.int64)
        return task_vector(texts, counts, counts)

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    uk, france, plants = market(kitchen, 1.0, 1), market(kitchen, 1.1, 2), market(garden, 1.0, 3)
    assert alike(uk, france) > 0.95 > alike(uk, plants)


def test_label_statistics_stay_in_their_range_for_any_counts() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        found = label_statistics(rng.integers(0, 10 ** int(rng.integers(1, 9)), size=int(rng.integers(1, 300))))
        assert np.all((found >= 0) & (found <= 1))
    assert label_statistics(np.zeros(3, np.int64)).tolist() == [0.0] * 6
    assert label_statistics(np.array([7])).tolist()[:4] == [0.0, 1.0, 1.0, 0.0]


def test_prototypes_find_the_groups_that_are_there() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)
    truth = rng.integers(3, size=120)
    vectors = (centres[truth] + rng.normal(scale=0.5, size=(120, 2))).astype(np.float32)

    found, groups = prototypes(vectors, 3)

    for centre in centres:
        assert np.linalg.norm(found - centre, axis=1).min() < 0.3
    assert len({(int(one), int(other)) for one, other in zip(truth, groups, strict=True)}) == 3
    again, _ = prototypes(vectors, 3)
    assert np.array_equal(found, again)
    assert len(prototypes(np.ones((5, 2), np.float32), 3)[0]) == 1
