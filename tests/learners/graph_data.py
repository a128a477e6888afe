"""What tests of the graph take in."""

from dataclasses import dataclass

from learners.knowledge import tables
from learners.knowledge.graph import CatalogueItem, KnowledgeGraph

MINUTE, DAY = 60_000, 86_400_000


@dataclass(frozen=True)
class Occurred:
    user_id: str
    item_id: str
    event_type: str = "view"
    event_time_ms: int = 0
    query: str | None = None
    partition: int = 0
    offset: int = 0


def stream(
    *rows: tuple[str, str, str, int], partition: int = 0, start: int = 0, query: str | None = None
) -> list[Occurred]:
    return [
        Occurred(user, item, kind, minute * MINUTE, query, partition, start + number)
        for number, (user, item, kind, minute) in enumerate(rows)
    ]


def edges(graph: KnowledgeGraph) -> dict[tuple[str, str, str], float]:
    with tables.connect(graph.postgres_url) as connection:
        rows = connection.execute("SELECT source, relation, target, weight FROM knowledge_edges").fetchall()
    return {
        (row["source"].removeprefix("item:"), row["relation"], row["target"].removeprefix("item:")): row["weight"]
        for row in rows
    }


def buy(graph: KnowledgeGraph, *baskets: tuple[str, ...], start: int = 0) -> None:
    """Each basket is bought by a person of its own."""
    rows = [
        (f"u{start + number}", item, "purchase", 10 * number)
        for number, basket in enumerate(baskets)
        for item in basket
    ]
    graph.apply(stream(*rows, start=start))


def shop(graph: KnowledgeGraph) -> None:
    graph.describe(
        CatalogueItem(item_id=item, category=["Kitchen", category], brand=brand)
        for item, category, brand in (
            ("mug", "Mugs", "Acme"),
            ("cup", "Mugs", "Acme"),
            ("glass", "Mugs", "Best"),
            ("tea", "Tea", "Leaf"),
            ("pot", "Pots", "Acme"),
        )
    )
    buy(graph, ("mug", "tea"), ("mug", "tea", "pot"), ("tea", "pot"), ("cup", "tea"), ("mug", "glass"))
