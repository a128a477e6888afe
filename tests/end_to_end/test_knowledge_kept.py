"""The learner process keeps what it learned: once, whatever kills it, and without those who asked to be forgotten."""

import json
from pathlib import Path

import pytest

from learners.knowledge import tables
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.contents import decode_rows, encode_rows
from learners.knowledge.entry import Lineage
from learners.knowledge.graph import KnowledgeGraph
from learners.knowledge.store import KnowledgeStore
from streams.topics import USERS_ERASURES
from tests.brokers import EmbeddedBroker
from tests.learner_runs import LearnerRun, Shop, interactions
from tests.learners.graph_data import edges
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KINDS = ["adapter", "graph_edges", "item_embeddings", "prototypes"]


def test_a_learner_killed_while_it_keeps_a_round_keeps_it_once_and_grows_the_graph_exactly(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_300, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=500, keeping=True)
    store = KnowledgeStore(postgres_url=database_url, artifacts=ArtifactStore((run.data_dir / "knowledge").as_uri()))

    def kept(version: int) -> list[str]:
        return sorted(entry.kind for entry in store.entries() if entry.lineage.model_version == version)

    try:
        run.start()
        shop.happen(made[:700])
        run.until(lambda now: now["rounds"]["passed"] == 1 and now["lag_interactions"] == 0)
        assert kept(1) == KINDS
        row = {"user_id": "u7", "item_id": "i1", "since_ms": made[0].event_time_ms}
        raw = store.deposit(
            encode_rows([row, row | {"user_id": "u8"}]),
            kind="exemplars",
            privacy="personal",
            lineage=Lineage(task="sequence"),
        )
        asked = {"user_id": "u7", "requested_at": "2030-01-01T00:00:00Z"}
        shop.publish(USERS_ERASURES, {0: [("u7", json.dumps(asked).encode())]})
        wait_until(lambda: store.show(raw.entry_id).entry_id != raw.entry_id)
        assert [left["user_id"] for left in decode_rows(store.read(raw.entry_id))] == ["u8"]
        assert raw.sha256 not in {name for name, _ in store.artifacts.names()}
        assert run.stop() == 0

        run.start(kill_at="graph grown", kill_at_time=2)
        shop.happen(made[700:])
        run.until_killed()
        run.start(kill_at="artifact written, no row")
        run.until_killed()
        assert kept(2) == []
        run.start(kill_at="knowledge kept")
        run.until_killed()
        assert kept(2) == KINDS
        run.start()
        run.until(
            lambda now: now["rounds"]["passed"] == 2 and not now["rounds_pending"] and not now["lag_interactions"]
        )
        assert run.stop() == 0
    finally:
        if run.process is not None and run.process.poll() is None:
            run.kill()

    for entry in store.entries():
        store.read(entry.entry_id)
    assert kept(1) == kept(2) == KINDS
    for kind in KINDS:
        one, other = (entry for entry in store.entries(kind=kind))
        assert other.lineage.parents == (() if kind == "graph_edges" else (one.entry_id,))
        assert other.lineage.offsets.keys() == {"0"}
        assert "newest_ndcg_10" in other.worth
    found = edges(KnowledgeGraph(postgres_url=database_url))
    assert found == pytest.approx(grown_calmly(database_url, made), rel=1e-9)
    assert len([key for key in found if key[1] == "co_view"]) > 50


def grown_calmly(database_url: str, made: list) -> dict[tuple[str, str, str], float]:
    """The edges of a graph that took everything in once: all before the erasure, then all but the erased person's."""
    with tables.connect(database_url) as connection:
        connection.execute("TRUNCATE knowledge_edges, knowledge_graph_ledger, knowledge_graph_tails")
    graph = KnowledgeGraph(postgres_url=database_url)
    graph.apply(made[:700])
    graph.forget(["u7"])
    graph.apply([each for each in made[700:] if each.user_id != "u7"])
    return edges(graph)
