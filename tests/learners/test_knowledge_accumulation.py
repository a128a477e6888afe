"""Accumulation: a released round leaves what the next task can start from, once, and within the bound."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.knowledge.accumulation import Accumulation
from learners.knowledge.archive import export_archive
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import decode_rows, decode_tensors, decode_vectors
from learners.knowledge.entry import Kind
from learners.knowledge.errors import PrivateEntryError
from learners.knowledge.forgetting import forget
from learners.knowledge.keys import load_signing_key
from learners.knowledge.prototypes import prototypes
from learners.knowledge.store import KnowledgeStore
from learners.knowledge.task_vectors import label_statistics, task_vector
from learners.model import SharedModel
from learners.registry import ReleaseRecord
from learners.releases import LoadedRelease
from learners.round_input import Person, RoundInput
from tests.learners.knowledge_data import open_store, write_keys
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


def test_people_s_rows_and_certainty_are_kept_where_asked_for_and_never_leave(
    store: KnowledgeStore, tmp_path: Path
) -> None:
    people = [
        Person(user_id="ada", since_ms=50, items=(1, 2, 3)),
        Person(user_id="bob", since_ms=None, items=(4,)),
        Person(user_id="eve", since_ms=500, items=(5, 6)),
    ]
    round_input = replace(ring(rows=20), people=people)
    kinds: frozenset[Kind] = frozenset({"adapter", "fisher", "exemplars", "user_embeddings"})
    accumulation = Accumulation(store, collection=PLENTY, kinds=kinds)
    record, release = released(round_input, 1)

    kept = {entry.kind: entry for entry in accumulation.keep(record, release, round_input, round_key="a-1").entries}
    again = accumulation.keep(record, release, round_input, round_key="a-1").entries

    assert set(kept) == kinds
    assert [entry.entry_id for entry in again] == [entry.entry_id for entry in kept.values()]
    assert {kind: entry.privacy for kind, entry in kept.items()} == {
        "adapter": "shop",
        "fisher": "shop",
        "exemplars": "personal",
        "user_embeddings": "personal",
    }
    assert (
        decode_tensors(store.read(kept["fisher"].entry_id)).keys()
        == decode_tensors(store.read(kept["adapter"].entry_id)).keys()
    )
    first = decode_rows(store.read(kept["exemplars"].entry_id))[0]
    assert first == {"user_id": "ada", "since_ms": 50, "items": [round_input.item_ids[item] for item in (1, 2, 3)]}
    vectors = decode_vectors(store.read(kept["user_embeddings"].entry_id))
    assert np.allclose(vectors.vectors, release.encode_users([[1, 2, 3], [4], [5, 6]]), atol=1e-6)

    key = load_signing_key(write_keys(tmp_path, "shop")[0])
    for kind in ("exemplars", "user_embeddings"):
        with pytest.raises(PrivateEntryError, match="is personal and does not leave"):
            export_archive(store, tmp_path / "k.tar", entry_ids=[kept[kind].entry_id], key=key, shop=True)
    assert not (tmp_path / "k.tar").exists()

    forget(store, {"ada": 100, "bob": 100, "eve": 100})
    left = {entry.kind: entry for entry in store.entries()}
    assert [row["user_id"] for row in decode_rows(store.read(left["exemplars"].entry_id))] == ["eve"]
    assert decode_vectors(store.read(left["user_embeddings"].entry_id)).keys == ("eve",)


def test_nobody_is_named_where_nobody_is_kept(store: KnowledgeStore) -> None:
    kinds: frozenset[Kind] = frozenset({"exemplars", "user_embeddings", "prototypes"})
    record, release = released(ring(), 1)

    kept = Accumulation(store, collection=PLENTY, kinds=kinds).keep(record, release, ring(), round_key="a-1")

    assert [entry.kind for entry in kept.entries] == ["prototypes"]
