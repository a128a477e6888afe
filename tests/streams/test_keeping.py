"""Keeping knowledge never stops learning; forgetting a person is never skipped; the graph grows behind, in order."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psycopg
import pytest
import structlog
import torch

from learners.knowledge import tables
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.donors import DonorSource
from learners.knowledge.errors import KnowledgeRefusedError, KnowledgeUnavailableError, VectorExtensionError
from learners.knowledge.graph import KnowledgeGraph
from learners.knowledge.store import KnowledgeStore
from learners.model import ModelConfig, SharedModel
from learners.releases.registry import Registry, ReleaseRecord
from learners.releases.release import save_candidate
from learners.rounds.material import RoundInput
from streams.batches import RecordBatch
from streams.events import CatalogItem, Interaction
from streams.learning.growing import Growing
from streams.learning.keeping import Keeping, catalogue_changes

CONFIG = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=6, spare_rows=0, hash_buckets=1)


def accumulation(database_url: str, folder: Path) -> Accumulation:
    store = KnowledgeStore(postgres_url=database_url, artifacts=ArtifactStore((folder / "knowledge").as_uri()))
    return Accumulation(store, collection=CollectionConfig(max_bytes=10**9))


def released(database_url: str, folder: Path) -> tuple[ReleaseRecord, RoundInput]:
    tokens = np.tile(np.array([0, 0, 1, 2, 1], np.int32), (3, 1))
    round_input = RoundInput(
        tokens=tokens,
        loss_mask=tokens[:, 1:] > 0,
        weight=np.ones(3, np.float32),
        replayed=np.zeros(3, np.bool_),
        newest_histories=tokens[:0, 1:],
        newest_targets=np.zeros(0, np.int32),
        frozen_histories=tokens[:0, 1:],
        frozen_targets=np.zeros(0, np.int32),
        item_ids=["", "a", "b"],
        text_vectors=np.ones((3, 6), np.float32),
        active=np.array([False, True, True]),
        model=CONFIG,
    )
    torch.manual_seed(0)
    save_candidate(
        folder / "candidate",
        model=SharedModel(CONFIG, capacity=4),
        item_matrix=torch.randn(3, 8),
        item_ids=round_input.item_ids,
        parent=None,
        facts={},
    )
    registry = Registry(postgres_url=database_url, root=folder / "models")
    registry.create()
    record = registry.publish(
        folder / "candidate", offsets={"0": 5}, metrics={"newest_ndcg_10": 0.5}, verdict={}, triggered_at_ms=1
    )
    return record, round_input


def test_who_keeps_nothing_does_nothing(tmp_path: Path) -> None:
    keeping = Keeping()
    keeping.prepare("k")
    keeping.forget({"ada": 1})
    keeping.grow([])
    assert not keeping.grows
    assert keeping.counts == {}


def test_a_released_round_is_kept_once(database_url: str, tmp_path: Path) -> None:
    record, round_input = released(database_url, tmp_path)
    keeping = Keeping(accumulation=accumulation(database_url, tmp_path))
    keeping.prepare("k")
    keeping.keep(record, round_input, round_key="a-1")
    keeping.keep(record, round_input, round_key="a-1")

    store = accumulation(database_url, tmp_path).store
    assert sorted(entry.kind for entry in store.entries()) == ["adapter", "item_embeddings", "prototypes"]
    assert keeping.counts["rounds_not_kept"] == 0


def test_what_cannot_be_kept_is_said_and_counted_and_nothing_else(database_url: str, tmp_path: Path) -> None:
    record, round_input = released(database_url, tmp_path)
    keeping = Keeping(accumulation=accumulation(database_url, tmp_path))
    keeping.prepare("k")
    (tmp_path / "knowledge").write_text("a file where the folder should be")

    with structlog.testing.capture_logs() as logs:
        keeping.keep(record, round_input, round_key="a-1")
        keeping.keep(replace(record, uri=(tmp_path / "gone").as_uri()), round_input, round_key="a-2")
    assert [entry["event"] for entry in logs] == ["knowledge_not_kept", "knowledge_not_kept"]
    assert "cannot write" in logs[0]["error"]
    assert "no release gone" in logs[1]["error"]
    assert keeping.counts["rounds_not_kept"] == 2


def test_a_database_that_is_away_is_waited_for_by_whoever_calls(tmp_path: Path) -> None:
    keeping = Keeping(accumulation=accumulation("postgresql://nobody@127.0.0.1:1/none", tmp_path))
    with pytest.raises(KnowledgeUnavailableError):
        keeping.prepare("k")
    with pytest.raises(KnowledgeUnavailableError):
        keeping.forget({"ada": 1})


def test_a_round_without_a_release_is_given_donors_and_a_damaged_one_is_named(
    database_url: str, tmp_path: Path
) -> None:
    record, round_input = released(database_url, tmp_path)
    kept = accumulation(database_url, tmp_path)
    keeping = Keeping(accumulation=kept, reuse=DonorSource(store=kept.store, encoder=""))
    keeping.prepare("k")
    keeping.keep(record, round_input, round_key="a-1")
    (donor,) = keeping.donors(round_input)
    assert donor.entry.kind == "adapter"
    assert donor.items is not None
    assert keeping.donors(replace(round_input, incumbent=tmp_path / "candidate")) == []

    file = tmp_path / "knowledge" / donor.entry.sha256
    file.write_bytes(file.read_bytes()[:-1])
    with structlog.testing.capture_logs() as logs:
        (refused,) = keeping.donors(round_input)
    assert [(entry["event"], entry["entry"]) for entry in logs] == [("knowledge_donor_refused", donor.entry.entry_id)]
    assert "is corrupt: sha256" in logs[0]["error"]
    assert (refused.trunk, refused.refused) == (b"", logs[0]["error"])
    assert keeping.counts["donors_refused"] == 1


@pytest.mark.parametrize(
    ("extension", "error", "message"),
    [
        (False, VectorExtensionError, "install pgvector, then CREATE EXTENSION vector"),
        (True, KnowledgeRefusedError, "permission denied for schema public"),
    ],
)
def test_a_database_that_cannot_hold_the_store_is_named_and_learning_goes_on_without_one(
    extension: bool, error: type[Exception], message: str, database_url: str, tmp_path: Path
) -> None:
    record, round_input = released(database_url, tmp_path)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain")
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        url = psycopg.conninfo.make_conninfo(database_url, user="plain", password="plain")
        keeping = Keeping(accumulation=accumulation(url, tmp_path))
        if extension:
            connection.execute("CREATE EXTENSION vector")
        with pytest.raises(error, match=message):
            accumulation(url, tmp_path).store.create()
        with structlog.testing.capture_logs() as logs:
            keeping.prepare("k")
        keeping.keep(record, round_input, round_key="a-1")
        connection.execute("DROP ROLE plain")

    assert logs[0]["event"] == "knowledge_not_kept"
    assert keeping.counts == {}


def interaction(offset: int, item_id: str = "a") -> Interaction:
    return Interaction(
        event_id=f"e{offset}",
        user_id="ada",
        item_id=item_id,
        event_type="view",
        event_time_ms=offset,
        appended_at_ms=offset,
        partition=0,
        offset=offset,
    )


def test_the_graph_takes_interactions_and_catalogue_each_once(database_url: str) -> None:
    graph = KnowledgeGraph(postgres_url=database_url)
    keeping = Keeping(graph=graph)
    keeping.prepare("cluster")
    encode = msgspec.json.Encoder().encode
    values = [encode(CatalogItem(item_id="a", category=("Tea",), brand="Leaf")), b"{rubbish", None]
    batch = RecordBatch(
        topic="catalog.items",
        partition=2,
        offsets=[5, 6, 9],
        keys=[b"a", b"x", b"b"],
        values=values,
        timestamps_ms=[0, 0, 0],
    )
    for _ in range(2):
        keeping.take_catalogue(batch)
        keeping.grow([interaction(0, "a"), interaction(1, "b")])

    assert graph.counts() == {"brand": 1, "category": 1, "co_view": 2}
    assert (keeping.counts["graph_items"], keeping.counts["graph_interactions"]) == (2, 2)
    assert [(change.item_id, change.offset, change.item is None) for change in catalogue_changes(batch)] == [
        ("a", 5, False),
        ("b", 9, True),
    ]
    with tables.connect(database_url) as connection:
        ledger = connection.execute("SELECT cluster_id, topic, partition, applied_offset FROM knowledge_graph_ledger")
        assert sorted(tuple(row.values()) for row in ledger) == [
            ("cluster", "catalogue", 2, 9),
            ("cluster", "interactions", 0, 1),
        ]


async def test_growing_goes_on_behind_in_order_and_drains() -> None:
    seen: list[int] = []
    go_on = asyncio.Event()

    async def grow(interactions: list[Interaction]) -> None:
        await go_on.wait()
        seen.extend(one.offset for one in interactions)

    growing = Growing(grow, capacity=1_000)
    for offset in range(5):
        await growing.put([interaction(offset)])
    assert seen == []  # nobody waited
    go_on.set()
    await growing.drained()
    assert seen == [0, 1, 2, 3, 4]
    await growing.drained()


async def test_whoever_brings_too_much_waits_and_a_failure_reaches_them() -> None:
    calls = 0

    async def grow(_: list[Interaction]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("the database is gone")

    growing = Growing(grow, capacity=2)
    await growing.put([interaction(0)])
    with pytest.raises(OSError, match="the database is gone"):
        await growing.put([interaction(1), interaction(2), interaction(3)])
    assert calls == 2
    growing.stop()
