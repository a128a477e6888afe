"""What the graph is for: candidates, cold starts, bundles, reasons."""

import pytest

from learners.knowledge.graph import CatalogueItem, KnowledgeGraph
from learners.knowledge.graph_uses import bundle, candidates, cold_start, explain
from tests.learners.graph_data import MINUTE, Occurred, shop


@pytest.fixture
def graph(knowledge_url: str) -> KnowledgeGraph:
    graph = KnowledgeGraph(postgres_url=knowledge_url, cluster_id="k")
    graph.create()
    return graph


def test_candidates_come_from_what_others_bought_and_never_from_the_history(graph: KnowledgeGraph) -> None:
    shop(graph)
    found = candidates(graph, {"mug": 1.0})

    assert found[0].item_id == "tea"
    assert {one.item_id for one in found} == {"tea", "pot", "glass"}  # cup is two purchases away
    assert found[0].path == "co_purchase"
    assert found[0].trail == ("item:mug", "item:tea")
    assert "mug" not in {one.item_id for one in found}
    assert [one.item_id for one in candidates(graph, {"mug": 1.0}, k=1)] == ["tea"]


def test_a_new_item_starts_from_its_neighbours_in_the_catalogue(graph: KnowledgeGraph) -> None:
    shop(graph)
    graph.describe([CatalogueItem(item_id="new-mug", category=["Kitchen", "Mugs"], brand="Acme")])

    found = cold_start(graph, "new-mug")
    assert {item for item, _ in found[:2]} == {"mug", "cup"}  # category and brand
    assert {item for item, _ in found[2:]} == {"glass", "pot"}  # one of them
    assert sum(weight for _, weight in found) == pytest.approx(1.0)
    assert cold_start(graph, "unheard-of") == []


def test_a_bundle_is_bought_together_every_part_with_every_other(graph: KnowledgeGraph) -> None:
    shop(graph)
    assert bundle(graph, "mug") == ["mug", "tea", "pot"]
    assert bundle(graph, "cup", size=3) == ["cup", "tea"]  # nothing else was bought with both
    assert bundle(graph, "unheard-of") == ["unheard-of"]


def test_a_reason_names_what_the_person_did_and_the_strongest_comes_first(graph: KnowledgeGraph) -> None:
    shop(graph)
    graph.apply([Occurred("v", item, "view", 99 * MINUTE, offset=50 + n) for n, item in enumerate(["glass", "tea"])])
    found = explain(
        graph,
        "tea",
        {"mug": "purchase", "glass": "view", "tea": "view"},
        titles={"mug": "the blue mug", "tea": "Green tea"},
    )

    assert [one.sentence for one in found] == [
        "because you bought the blue mug, often bought with Green tea",
        "because you looked at glass, often looked at with Green tea",
    ]
    assert found[0].strength > found[1].strength
    assert explain(graph, "unheard-of", {"mug": "view"}) == []
