"""The knowledge graph: grown from catalogue and stream, kept in Postgres, decayed, bounded, and asked by path.

Whatever a batch of interactions adds is in the graph exactly once: edges, what is remembered of people, and how far
each source partition was applied are written in ONE transaction, and interactions at or below that are dropped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from learners.knowledge import graph_tables, tables
from learners.knowledge.errors import InvalidPathError
from learners.knowledge.graph_growth import (
    LEARNED,
    STRUCTURAL,
    Delta,
    GrowthConfig,
    Step,
    described,
    grow,
    node,
    remembered,
)

INVERSE = "^"
_INTERACTIONS, _CATALOGUE = "interactions", "catalogue"  # what the ledger counts: source offsets, and the catalogue's
_LONGEST_PATH = 4
_WALK = f"""
WITH RECURSIVE step (depth, relation, inverse) AS (
    SELECT * FROM unnest(%(depths)s::int[], %(relations)s::text[], %(inverses)s::bool[])
), walk (node, depth, score, trail) AS (
    SELECT node, 0, weight, ARRAY[node] FROM unnest(%(starts)s::text[], %(weights)s::float8[]) AS start (node, weight)
    UNION ALL
    SELECT hop.node, walk.depth + 1, walk.score * hop.share, walk.trail || hop.node
    FROM walk JOIN step ON step.depth = walk.depth
    CROSS JOIN LATERAL (
        SELECT edge.node, edge.strength / sum(edge.strength) OVER () AS share
        FROM (
            SELECT target AS node, {graph_tables.AMONG} AS strength FROM knowledge_edges
            WHERE NOT step.inverse AND source = walk.node AND relation = step.relation
            UNION ALL
            SELECT source, {graph_tables.AMONG} FROM knowledge_edges
            WHERE step.inverse AND target = walk.node AND relation = step.relation
        ) AS edge ORDER BY edge.strength DESC, edge.node LIMIT %(fan_out)s
    ) AS hop
    WHERE hop.node <> ALL (walk.trail)
)
SELECT node, sum(score) AS score, (array_agg(to_jsonb(trail) ORDER BY score DESC, trail))[1] AS trail
FROM walk WHERE depth = %(length)s GROUP BY node ORDER BY score DESC, node LIMIT %(k)s
"""  # noqa: S608 - literals


class Occurrence(Protocol):
    """An interaction with where it came from, as `streams.events.Interaction` is."""

    @property
    def user_id(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def event_time_ms(self) -> int: ...
    @property
    def query(self) -> str | None: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueItem:
    """What the catalogue says of an item, as far as the graph needs it."""

    item_id: str
    category: Sequence[str] = ()
    brand: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """One record of the catalogue's log: an item, or that it is delisted, and where the record stands."""

    item_id: str
    item: CatalogueItem | None
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How large and how forgetful the graph is.

    Args:
        half_life_days: A learned edge weighs half as much after this time of the data; above 0.
        edges_per_node: Most edges of one node and relation; the weakest go. At least 1.
        most_edges: Most learned edges in all, held by `prune`.
        least_weight: `prune` drops learned edges that have decayed below it.
        growth: Which interactions belong together.
    """

    half_life_days: float = 30.0
    edges_per_node: int = 50
    most_edges: int = 5_000_000
    least_weight: float = 0.05
    growth: GrowthConfig = field(default_factory=GrowthConfig)

    @property
    def half_life_ms(self) -> float:
        """The same in milliseconds."""
        return self.half_life_days * 86_400_000


@dataclass(frozen=True, slots=True)
class Reached:
    """A node at the end of a path: how strongly it is reached, and by which way most of all."""

    node: str
    score: float
    trail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge and its strength: its weight at the newest time among the edges that it was asked for with."""

    source: str
    relation: str
    target: str
    strength: float


class KnowledgeGraph:
    """Grow the graph and ask it. Every call opens a connection of its own and is one transaction.

    Args:
        postgres_url: Where the tables live.
        config: How large and how forgetful it is.
        cluster_id: Identity of the Kafka cluster that offsets belong to.
    """

    def __init__(self, *, postgres_url: str, config: GraphConfig | None = None, cluster_id: str = "") -> None:
        self.postgres_url, self.config, self.cluster_id = postgres_url, config or GraphConfig(), cluster_id

    def create(self) -> None:
        """Create the tables that are missing."""
        with self._writing() as connection:
            connection.execute(graph_tables.TABLES)

    # ---- what comes in

    def apply(self, interactions: Sequence[Occurrence]) -> int:
        """Take in interactions, each once, however often it is delivered; returns how many were new.

        Args:
            interactions: In the order of their offsets within each source partition.

        Raises:
            KnowledgeUnavailableError: If Postgres does not answer; deliver them again.
        """
        with self._writing() as connection:
            partitions = {one.partition for one in interactions}
            done = graph_tables.applied(connection, self.cluster_id, _INTERACTIONS, partitions)
            new: list[Occurrence] = []
            for one in interactions:
                if one.offset > done.get(one.partition, -1):
                    done[one.partition] = one.offset
                    new.append(one)
            if new:
                deltas = self._deltas(connection, new)
                graph_tables.add(connection, deltas, half_life_ms=self.config.half_life_ms)
                self._trim(connection, deltas)
                graph_tables.advance(connection, self.cluster_id, _INTERACTIONS, done)
        return len(new)

    def describe(self, items: Iterable[CatalogueItem]) -> None:
        """Take in what the catalogue says; what it said of these items before is replaced."""
        with self._writing() as connection:
            self._describe(connection, {one.item_id: one for one in items})

    def delist(self, item_ids: Iterable[str]) -> None:
        """Remove items and every edge that begins or ends at them."""
        with self._writing() as connection:
            self._delist(connection, item_ids)

    def take_catalogue(self, changes: Sequence[CatalogueChange]) -> int:
        """Take in a run of the catalogue's log, each record once; returns how many were new.

        Args:
            changes: In the order of their offsets within each partition.
        """
        with self._writing() as connection:
            partitions = {change.partition for change in changes}
            done = graph_tables.applied(connection, self.cluster_id, _CATALOGUE, partitions)
            new = [change for change in changes if change.offset > done.get(change.partition, -1)]
            newest = {change.item_id: change for change in new}
            self._delist(connection, (item_id for item_id, change in newest.items() if change.item is None))
            self._describe(
                connection, {item_id: change.item for item_id, change in newest.items() if change.item is not None}
            )
            for change in new:
                done[change.partition] = max(change.offset, done.get(change.partition, -1))
            graph_tables.advance(connection, self.cluster_id, _CATALOGUE, done)
        return len(new)

    def absorb(self, rows: Iterable[Mapping[str, Any]], *, share: float = 1.0) -> None:
        """Add another graph's learned edges, as `snapshot` returns them, each at this share of its weight."""
        deltas = [
            Delta(row["source"], row["relation"], row["target"], share * float(row["weight"]), int(row["last_time_ms"]))
            for row in rows
            if row["relation"] in LEARNED
        ]
        with self._writing() as connection:
            graph_tables.add(connection, deltas, half_life_ms=self.config.half_life_ms)
            self._trim(connection, deltas)

    def forget(self, user_ids: Iterable[str]) -> None:
        """Forget what is remembered of people. Edges are sums over people and stay."""
        with self._writing() as connection:
            connection.execute("DELETE FROM knowledge_graph_tails WHERE user_id = ANY(%s)", ([*user_ids],))

    def prune(self, *, now_ms: int | None = None) -> int:
        """Drop what has faded, and the weakest beyond the bound; returns how many edges went. Looks at every edge.

        Args:
            now_ms: Time of the data, not of the clock; None: of the newest edge.
        """
        with self._writing() as connection:
            newest_ms = self._newest_ms(connection) if now_ms is None else now_ms
            values = self._values(newest_ms) | {"learned": list(LEARNED)}
            faded = connection.execute(
                f"""DELETE FROM knowledge_edges
                    WHERE relation = ANY(%(learned)s) AND {graph_tables.STRENGTH} < %(least)s""",  # noqa: S608 - literals
                values | {"least": self.config.least_weight},
            ).rowcount
            weakest = connection.execute(
                f"""DELETE FROM knowledge_edges WHERE (source, relation, target) IN (
                        SELECT source, relation, target FROM knowledge_edges WHERE relation = ANY(%(learned)s)
                        ORDER BY {graph_tables.STRENGTH} DESC, source, relation, target OFFSET %(most)s)""",  # noqa: S608 - literals
                values | {"most": self.config.most_edges},
            ).rowcount
            connection.execute(
                "DELETE FROM knowledge_graph_tails WHERE last_time_ms < %s",
                (newest_ms - self.config.growth.purchase_window_ms,),
            )
        return faded + weakest

    # ---- what is asked

    def walk(self, starts: Mapping[str, float], path: str, *, k: int = 20, fan_out: int = 30) -> list[Reached]:
        """Follow a path of relations from weighted nodes; returns where it ends, the most strongly reached first.

        At every hop a node's score is divided among its edges by their weights, so a score is the chance of ending
        there on a random walk along this path. No way visits a node twice.

        Args:
            starts: Nodes and their weights.
            path: Relations joined by `/`, each followed backwards behind a `^`: `co_purchase/category/^category`.
            k: Most nodes returned.
            fan_out: Most edges followed from one node; the strongest.

        Raises:
            InvalidPathError: If a relation is unknown, or the path too long.

        Source: the inverse `^` and the `/` of SPARQL 1.1 property paths, https://www.w3.org/TR/sparql11-query/.
        """
        relations = parse_path(path)
        with tables.connect(self.postgres_url) as connection:
            values = {
                "half_life_ms": self.config.half_life_ms,
                "depths": list(range(len(relations))),
                "relations": [relation for relation, _ in relations],
                "inverses": [inverse for _, inverse in relations],
                "starts": list(starts),
                "weights": list(starts.values()),
                "fan_out": fan_out,
                "length": len(relations),
                "k": k,
            }
            found = connection.execute(_WALK, values).fetchall()
        return [Reached(row["node"], row["score"], tuple(row["trail"])) for row in found]

    def between(self, sources: Iterable[str], target: str) -> list[Edge]:
        """Return the edges from any of these nodes to one, the strongest first."""
        with tables.connect(self.postgres_url) as connection:
            rows = connection.execute(
                f"""SELECT source, relation, {graph_tables.AMONG} AS strength FROM knowledge_edges
                    WHERE target = %(target)s AND source = ANY(%(sources)s) ORDER BY strength DESC, source, relation""",  # noqa: S608 - literals
                {"half_life_ms": self.config.half_life_ms, "target": target, "sources": [*sources]},
            )
            return [Edge(row["source"], row["relation"], target, row["strength"]) for row in rows]

    def among(self, sources: Iterable[str], targets: Iterable[str], *, timeout_ms: int) -> list[Edge]:
        """Return the edges from any of some nodes to any of others, the strongest first, in one query.

        Args:
            sources: Nodes.
            targets: The same.
            timeout_ms: How long Postgres may take.

        Raises:
            KnowledgeUnavailableError: If it takes longer, or does not answer.
        """
        with tables.connect(self.postgres_url) as connection, connection.transaction():
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(timeout_ms),))
            rows = connection.execute(
                f"""SELECT source, relation, target, {graph_tables.AMONG} AS strength FROM knowledge_edges
                    WHERE target = ANY(%(targets)s) AND source = ANY(%(sources)s)
                    ORDER BY strength DESC, source, relation, target""",  # noqa: S608 - literals
                {"half_life_ms": self.config.half_life_ms, "targets": [*targets], "sources": [*sources]},
            )
            return [Edge(row["source"], row["relation"], row["target"], row["strength"]) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many edges there are of each relation."""
        with tables.connect(self.postgres_url) as connection:
            rows = connection.execute(
                "SELECT relation, count(*) AS edges FROM knowledge_edges GROUP BY relation ORDER BY relation"
            )
            return {row["relation"]: row["edges"] for row in rows}

    def snapshot(self, *, limit: int = 100_000) -> list[dict[str, Any]]:
        """Return the strongest learned edges as rows for an entry of kind `graph_edges`, in the order of their keys.

        Edges from queries stay here: what a person typed may be about them.
        """
        with tables.connect(self.postgres_url) as connection:
            values = self._values(self._newest_ms(connection)) | {"limit": limit}
            return connection.execute(
                f"""SELECT * FROM (
                        SELECT source, relation, target, weight, last_time_ms FROM knowledge_edges
                        WHERE relation = ANY(%(shared)s) ORDER BY {graph_tables.STRENGTH} DESC LIMIT %(limit)s
                    ) AS strongest ORDER BY source, relation, target""",  # noqa: S608 - literals
                values | {"shared": [relation for relation in LEARNED if relation != "query_led_to"]},
            ).fetchall()

    def _describe(self, connection: tables.Connection, items: Mapping[str, CatalogueItem]) -> None:
        edges = [
            edge
            for item_id, one in items.items()
            for edge in described(item_id, category=one.category, brand=one.brand, attributes=one.attributes)
        ]
        graph_tables.describe(connection, [node("item", item_id) for item_id in items], edges)

    def _delist(self, connection: tables.Connection, item_ids: Iterable[str]) -> None:
        if nodes := [node("item", item_id) for item_id in item_ids]:
            connection.execute("DELETE FROM knowledge_edges WHERE source = ANY(%s)", (nodes,))
            connection.execute("DELETE FROM knowledge_edges WHERE target = ANY(%s)", (nodes,))

    def _deltas(self, connection: tables.Connection, new: Sequence[Occurrence]) -> list[Delta]:
        growth, tails = self.config.growth, graph_tables.read_tails(connection, {one.user_id for one in new})
        items = {one.item_id for one in new} | {step.item_id for tail in tails.values() for step in tail}
        known = graph_tables.categories(connection, (node("item", item_id) for item_id in items))
        deltas: list[Delta] = []
        for one in new:
            step = Step(one.item_id, one.event_type, one.event_time_ms, one.query)
            tail = tails.get(one.user_id, [])
            deltas += grow(tail, step, category_of=lambda item_id: known.get(node("item", item_id)), config=growth)
            tails[one.user_id] = remembered(tail, step, growth)
        graph_tables.write_tails(connection, tails)
        return deltas

    def _trim(self, connection: tables.Connection, deltas: Sequence[Delta]) -> None:
        if deltas:
            graph_tables.trim(
                connection, deltas, most=self.config.edges_per_node, **self._values(max(one.time_ms for one in deltas))
            )

    def _values(self, now_ms: int) -> dict[str, Any]:
        return {"now_ms": now_ms, "half_life_ms": self.config.half_life_ms}

    def _newest_ms(self, connection: tables.Connection) -> int:
        row = connection.execute("SELECT coalesce(max(last_time_ms), 0) AS newest FROM knowledge_edges").fetchone()
        return row["newest"] if row else 0

    @contextmanager
    def _writing(self) -> Iterator[tables.Connection]:
        """One transaction, one writer at a time."""
        with tables.connect(self.postgres_url) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (graph_tables.LOCK,))
            yield connection


def parse_path(path: str) -> list[tuple[str, bool]]:
    """Return the relations of a path, and whether each is followed backwards.

    >>> parse_path("co_purchase/^category")
    [('co_purchase', False), ('category', True)]

    Raises:
        InvalidPathError: If a relation is unknown, or there are too many.
    """
    found = [(part.removeprefix(INVERSE), part.startswith(INVERSE)) for part in path.split("/")]
    known = (*STRUCTURAL, *LEARNED)
    if len(found) > _LONGEST_PATH or any(relation not in known for relation, _ in found):
        raise InvalidPathError(path=path, expected=f"1 to {_LONGEST_PATH} of {', '.join(known)}, joined by /")
    return found
