"""The graph's tables, and what a weight is worth at a time. All statements run on connections of their caller.

A weight is stored as it was at its edge's `last_time_ms` and halves with every half-life after it. Structural edges
(category, brand, attribute) do not decay.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from learners.knowledge.graph_growth import STRUCTURAL, Delta, Step
from learners.knowledge.tables import Connection

LOCK = 7_235_419_012  # any constant of our own: one writer of the graph at a time

TABLES = """
CREATE TABLE IF NOT EXISTS knowledge_edges (
    source text NOT NULL,
    relation text NOT NULL,
    target text NOT NULL,
    weight double precision NOT NULL,
    last_time_ms bigint NOT NULL,
    PRIMARY KEY (source, relation, target)
);
CREATE INDEX IF NOT EXISTS knowledge_edges_target ON knowledge_edges (target, relation);
CREATE TABLE IF NOT EXISTS knowledge_graph_ledger (
    cluster_id text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    applied_offset bigint NOT NULL,
    PRIMARY KEY (cluster_id, topic, partition)
);
CREATE TABLE IF NOT EXISTS knowledge_graph_tails (
    user_id text PRIMARY KEY,
    steps jsonb NOT NULL,
    last_time_ms bigint NOT NULL
);
"""


def strength_at(now: LiteralString) -> LiteralString:
    """Return the SQL of what an edge is worth at a time (ms), itself SQL; the parameter `half_life_ms` goes with it.

    Postgres refuses floats that underflow, so neither a factor nor a weight gets near enough to 0 for that.
    """
    return (
        "CASE WHEN relation IN ('category', 'brand', 'attribute') THEN weight "
        "ELSE greatest(weight, 1e-30) * " + _factor(now, "last_time_ms") + " END"
    )


def _factor(later: LiteralString, earlier: LiteralString) -> LiteralString:
    exponent: LiteralString = "(" + earlier + " - " + later + ") / %(half_life_ms)s::float8"
    return "power(2.0, least(100.0, greatest(-100.0, " + exponent + ")))"


STRENGTH: LiteralString = strength_at("%(now_ms)s")
AMONG: LiteralString = strength_at("max(last_time_ms) OVER ()")  # of rows that are compared with nothing but each other
_NEWER: LiteralString = "greatest(edge.last_time_ms, EXCLUDED.last_time_ms)"
_ADD: LiteralString = f"""
INSERT INTO knowledge_edges AS edge (source, relation, target, weight, last_time_ms)
SELECT * FROM unnest(%(sources)s::text[], %(relations)s::text[], %(targets)s::text[], %(weights)s::float8[],
                     %(times)s::bigint[])
ON CONFLICT (source, relation, target) DO UPDATE SET
    last_time_ms = {_NEWER},
    weight = greatest(edge.weight, 1e-30) * {_factor(_NEWER, "edge.last_time_ms")}
             + EXCLUDED.weight * {_factor(_NEWER, "EXCLUDED.last_time_ms")}
"""  # noqa: S608 - literals


def add(connection: Connection, deltas: Iterable[Delta], *, half_life_ms: float) -> None:
    """Add weights to edges, and decay what was there to the newer of both times."""
    merged = merge(deltas, half_life_ms=half_life_ms)
    if merged:
        connection.execute(_ADD, _columns(merged) | {"half_life_ms": half_life_ms})
        connection.execute(
            "DELETE FROM knowledge_edges USING unnest(%(sources)s::text[], %(relations)s::text[], %(targets)s::text[]) "
            "AS touched (source, relation, target) WHERE knowledge_edges.source = touched.source "
            "AND knowledge_edges.relation = touched.relation AND knowledge_edges.target = touched.target "
            "AND weight < 1e-9",
            _columns(merged),
        )


def merge(deltas: Iterable[Delta], *, half_life_ms: float) -> list[Delta]:
    """Return one delta an edge, in the order of their keys, each at its newest time.

    >>> twice = [Delta("a", "co_view", "b", 1.0, 0), Delta("a", "co_view", "b", 1.0, 1_000)]
    >>> merge(twice, half_life_ms=1_000)
    [Delta(source='a', relation='co_view', target='b', weight=1.5, time_ms=1000)]
    """
    merged: dict[tuple[str, str, str], Delta] = {}
    for delta in deltas:
        key = (delta.source, delta.relation, delta.target)
        if (before := merged.get(key)) is not None:
            newest = max(before.time_ms, delta.time_ms)
            weight = sum(one.weight * 2.0 ** ((one.time_ms - newest) / half_life_ms) for one in (before, delta))
            delta = Delta(delta.source, delta.relation, delta.target, weight, newest)  # noqa: PLW2901 - the same edge
        merged[key] = delta
    return [merged[key] for key in sorted(merged)]


def trim(connection: Connection, deltas: Iterable[Delta], *, most: int, now_ms: int, half_life_ms: float) -> None:
    """Keep the strongest edges of every node and relation that these deltas touched."""
    groups = sorted({(delta.source, delta.relation) for delta in deltas})
    connection.execute(
        f"""DELETE FROM knowledge_edges AS edge USING (
               SELECT source, relation, target,
                      row_number() OVER (PARTITION BY source, relation ORDER BY {STRENGTH} DESC, target) AS place
               FROM knowledge_edges
                    JOIN unnest(%(sources)s::text[], %(relations)s::text[]) AS touched (source, relation)
                    USING (source, relation)
           ) AS ranked
           WHERE place > %(most)s AND edge.source = ranked.source AND edge.relation = ranked.relation
                 AND edge.target = ranked.target""",  # noqa: S608 - literals
        {
            "sources": [source for source, _ in groups],
            "relations": [relation for _, relation in groups],
            "most": most,
            "now_ms": now_ms,
            "half_life_ms": half_life_ms,
        },
    )


def describe(connection: Connection, items: Sequence[str], edges: Sequence[tuple[str, str, str]]) -> None:
    """Replace what the catalogue says of items (nodes); it is true until the catalogue says something else."""
    connection.execute(
        "DELETE FROM knowledge_edges WHERE source = ANY(%s) AND relation = ANY(%s)", (list(items), list(STRUCTURAL))
    )
    connection.execute(
        """INSERT INTO knowledge_edges (source, relation, target, weight, last_time_ms)
           SELECT *, 1.0, 0 FROM unnest(%s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING""",
        [list(column) for column in zip(*sorted(set(edges)), strict=True)] if edges else [[], [], []],
    )


def categories(connection: Connection, items: Iterable[str]) -> dict[str, str]:
    """Return the category of each item (both are nodes) that has one."""
    rows = connection.execute(
        "SELECT source, min(target) AS target FROM knowledge_edges "
        "WHERE relation = 'category' AND source = ANY(%s) GROUP BY source",
        (sorted(set(items)),),
    )
    return {row["source"]: row["target"] for row in rows}


def applied(connection: Connection, cluster_id: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the highest offset applied of each partition that has any."""
    rows = connection.execute(
        "SELECT partition, applied_offset FROM knowledge_graph_ledger "
        "WHERE cluster_id = %s AND topic = %s AND partition = ANY(%s)",
        (cluster_id, topic, sorted(partitions)),
    )
    return {row["partition"]: row["applied_offset"] for row in rows}


def advance(connection: Connection, cluster_id: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Note the highest offset applied of each partition."""
    for partition, offset in sorted(offsets.items()):
        connection.execute(
            """INSERT INTO knowledge_graph_ledger VALUES (%s, %s, %s, %s)
               ON CONFLICT (cluster_id, topic, partition) DO UPDATE SET applied_offset = EXCLUDED.applied_offset""",
            (cluster_id, topic, partition, offset),
        )


def read_tails(connection: Connection, user_ids: Iterable[str]) -> dict[str, list[Step]]:
    """Return what is remembered of people."""
    rows = connection.execute(
        "SELECT user_id, steps FROM knowledge_graph_tails WHERE user_id = ANY(%s)", (sorted(user_ids),)
    )
    return {row["user_id"]: [Step(*step) for step in row["steps"]] for row in rows}


def write_tails(connection: Connection, tails: Mapping[str, Sequence[Step]]) -> None:
    """Remember what people did last."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO knowledge_graph_tails VALUES (%s, %s, %s)
               ON CONFLICT (user_id) DO UPDATE SET steps = EXCLUDED.steps, last_time_ms = EXCLUDED.last_time_ms""",
            [(user_id, Jsonb(_packed(steps)), steps[-1].event_time_ms) for user_id, steps in sorted(tails.items())],
        )


def _packed(steps: Sequence[Step]) -> list[list[Any]]:
    return [[step.item_id, step.event_type, step.event_time_ms, step.query] for step in steps]


def _columns(deltas: Sequence[Delta]) -> dict[str, list[Any]]:
    return {
        "sources": [delta.source for delta in deltas],
        "relations": [delta.relation for delta in deltas],
        "targets": [delta.target for delta in deltas],
        "weights": [delta.weight for delta in deltas],
        "times": [delta.time_ms for delta in deltas],
    }
