"""`alluvium knowledge graph` and `suggest`: what the knowledge graph says, and what it is good for."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import options

if TYPE_CHECKING:
    from learners.knowledge.graph import KnowledgeGraph

NODES = ("item", "category", "brand", "attribute", "query")
Answer = Literal["candidates", "cold-start", "bundle"]


def graph(
    start: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE",
            help="item:ID, category:A > B, brand:X, attribute:name=value or query:words; without: counts.",
        ),
    ] = None,
    path: Annotated[
        str, typer.Option("--path", help="Relations to follow, joined by /; ^ before one follows it backwards.")
    ] = "co_purchase",
    *,
    k: Annotated[int, typer.Option("--k", help="Most nodes.", min=1, max=1_000)] = 10,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Ask the knowledge graph where a path of relations leads, and with what chance."""
    if start is not None and start.partition(":")[0] not in NODES:
        raise typer.BadParameter(f"{start!r}; expected one of {', '.join(NODES)}, then a colon", param_hint="NODE")
    grown = _opened(postgres_url, data_dir)
    table = Table("relation", "edges") if start is None else Table("node", "chance", "by way of")
    if start is None:
        for relation, edges in grown.counts().items():
            table.add_row(relation, f"{edges:,}")
    else:
        for reached in grown.walk({start: 1.0}, path, k=k):
            table.add_row(reached.node, f"{reached.score:.4f}", " > ".join(reached.trail[1:-1]) or "-")
    Console().print(table)


def suggest(
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="What somebody turned to, newest last.")],
    *,
    answer: Annotated[
        Answer,
        typer.Option(
            "--as",
            help="candidates: what suits whoever turned to these; cold-start: what the catalogue puts nearest to a new"
            " item; bundle: what is bought with the item and with each other.",
        ),
    ] = "candidates",
    k: Annotated[int, typer.Option("--k", help="Most items.", min=1, max=1_000)] = 10,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Ask the knowledge graph for items: candidates with the way that led there, neighbours of a new one, a bundle."""
    if answer != "candidates" and len(items) > 1:
        raise typer.BadParameter(f"{len(items)} items; expected one for {answer}", param_hint="ITEM...")
    from learners.knowledge import graph_uses

    grown = _opened(postgres_url, data_dir)
    if answer == "bundle":
        table = Table("bundle")
        for item_id in graph_uses.bundle(grown, items[0], size=k):
            table.add_row(item_id)
    elif answer == "cold-start":
        table = Table("item", "weight")
        for item_id, weight in graph_uses.cold_start(grown, items[0], k=k):
            table.add_row(item_id, f"{weight:.4f}")
    else:
        table = Table("item", "score", "path", "by way of")
        history = {item_id: 0.5 ** (len(items) - 1 - place) for place, item_id in enumerate(items)}
        for one in graph_uses.candidates(grown, history, k=k):
            table.add_row(one.item_id, f"{one.score:.4f}", one.path, " > ".join(one.trail))
    Console().print(table)


def _opened(postgres_url: str | None, data_dir: options.DataDir) -> "KnowledgeGraph":
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir)
    options.required_postgres(settings)
    from infra.composition import knowledge_graph

    grown = knowledge_graph(settings)
    grown.create()
    return grown
