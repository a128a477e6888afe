"""What the ledgers say, added up for reports: every figure is of records whose effects are in Postgres."""

from collections.abc import Iterable
from typing import Any

from psycopg import sql

from feature_store import freshness
from feature_store.connection import checked_project, connect, own_table, translated
from feature_store.ledger import COUNTS


def ledger_report(postgres_url: str, cluster_id: str | None = None, *, project: str = "alluvium") -> dict[str, Any]:
    """Read every ledger.

    Args:
        postgres_url: As libpq takes it; `feature_store.apply.apply` has run on it.
        cluster_id: Only ledgers of this Kafka cluster; None: of all.
        project: Feast project.

    Returns:
        By topic: `counts` by outcome (`ledger.COUNTS`), `next_offset` by partition (None: nothing flushed), and
        `freshness_ms` with `p50`, `p99` (None without events) and `events`, from broker append to just before the
        commit.

    Raises:
        StoreUnavailableError: If Postgres does not answer.
    """
    query = sql.SQL("SELECT topic, partition, next_offset, freshness, {} FROM {} {} ORDER BY topic, partition").format(
        sql.SQL(", ").join(sql.Identifier(f"{name}_count") for name in COUNTS),
        own_table(checked_project(project), "ledger"),
        sql.SQL("" if cluster_id is None else "WHERE cluster_id = %s"),
    )
    with translated(), connect(postgres_url, application="alluvium-report") as connection:
        rows = connection.execute(query, None if cluster_id is None else (cluster_id,)).fetchall()
    return _summed(rows)


def _summed(rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    histograms: dict[str, list[int]] = {}
    for topic, partition, next_offset, histogram, *counts in rows:
        entry = report.setdefault(topic, {"counts": dict.fromkeys(COUNTS, 0), "next_offset": {}})
        entry["next_offset"][partition] = next_offset
        for name, count in zip(COUNTS, counts, strict=True):
            entry["counts"][name] += count
        total = histograms.setdefault(topic, [0] * freshness.BUCKETS)
        if len(histogram) == len(total):
            histograms[topic] = [old + new for old, new in zip(total, histogram, strict=True)]
    for topic, total in histograms.items():
        report[topic]["freshness_ms"] = {
            "p50": freshness.quantile(total, 0.5),
            "p99": freshness.quantile(total, 0.99),
            "events": sum(total),
        }
    return report
