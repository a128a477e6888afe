"""The report of a replay: what went in, what came of it, and whether the two sides of every count agree."""

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streams.audit import Findings
from streams.topics import CLICKSTREAM_EVENTS, INTERACTIONS_BY_ITEM, RECOMMENDATIONS_RANKINGS

OUTCOMES = ("applied", "rejected", "duplicate", "late", "erased")
METRICS = ("hit_rate_10", "ndcg_10", "mrr")
PACKAGES = (
    "alluvium", "faust-streaming", "aiokafka", "kafka-python", "confluent-kafka", "feast", "psycopg", "torch",
    "transformers", "river", "numpy", "msgspec", "pyarrow",
)  # fmt: skip


@dataclass(kw_only=True)
class Facts:
    """Everything that a replay observed.

    Args:
        ledger: The ledger's report by topic: `counts` and `partitions` (next offsets), `freshness_ms`.
        before: The same, before the replay.
        found: What the independent consumer read.
        sent: Events that the broker acknowledged.
        learned: Interactions that the learner says it applied; None: unknown.
        rounds: Every round, as recorded in Postgres.
        swaps: When workers swapped to which version: `version`, `sequence`, `swapped_at_ms`.
        ingest_s: From the first event sent to the last one in the ledger.
        wall_s: From the first event sent until everything was drained and the last round had ended.
    """

    ledger: Mapping[str, Any]
    before: Mapping[str, Any]
    found: Findings
    sent: int
    learned: int | None
    rounds: Sequence[Mapping[str, Any]]
    swaps: Sequence[Mapping[str, Any]]
    ingest_s: float
    wall_s: float
    extra: dict[str, Any] = field(default_factory=dict)


def build(facts: Facts) -> dict[str, Any]:
    """Put the report together; `facts.extra` is taken over as it is."""
    events = {name: counted(facts, CLICKSTREAM_EVENTS, name) for name in ("received", *OUTCOMES, "truncated")}
    releases = sorted(facts.found.releases.values(), key=lambda release: release["sequence"])
    swaps = [_swap(facts, release) for release in releases]
    took_s = [swap["release_s"] for swap in swaps if swap["release_s"] is not None and swap["kind"] == "release"]
    return {
        "events": events,
        "reconcile": reconcile(facts, events),
        "throughput_eps": events["received"] / facts.ingest_s if facts.ingest_s else None,
        "ingest_s": facts.ingest_s,
        "wall_s": facts.wall_s,
        "freshness_ms": {
            "feature": _topic(facts.ledger, CLICKSTREAM_EVENTS).get("freshness_ms"),
            "ranking": percentiles(facts.found.ranking_ages_ms),
        },
        "release_s": percentiles(took_s) | {"each": swaps},
        "rounds": len(facts.rounds),
        "releases": sum(release["kind"] == "release" for release in releases),
        "rollbacks": sum(release["kind"] == "rollback" for release in releases),
        "gates": [gate(finished) for finished in facts.rounds],
        "quality": quality(facts.found.totals),
        "drift": list(facts.found.drifts.values()),
        "rankings": facts.found.records(RECOMMENDATIONS_RANKINGS),
        "dead_letters": dict(facts.found.dead_letters),
        "versions": versions(),
        **facts.extra,
    }


def reconcile(facts: Facts, events: Mapping[str, int]) -> dict[str, Any]:
    """Hold the ledger's figures against those of the independent consumer, the learner and item features."""
    found = facts.found
    interactions = events["applied"] + events["late"]
    checks = [
        check("received = applied + rejected + duplicate + late + erased", events["received"], _sum(events)),
        check(
            "received = events in Kafka, counted independently", events["received"], found.records(CLICKSTREAM_EVENTS)
        ),
        check("events sent and acknowledged = events in Kafka", facts.sent, found.records(CLICKSTREAM_EVENTS)),
        check(
            "next offset of every partition = end counted independently",
            _next_offsets(facts.ledger),
            _audited_offsets(found),
        ),
        check("applied + late = distinct interactions in Kafka", interactions, found.interactions),
        check("rejected = distinct dead letters in Kafka", events["rejected"], len(found.dead_sources)),
        check(
            "applied = interactions in item features",
            events["applied"],
            counted(facts, INTERACTIONS_BY_ITEM, "applied"),
        ),
        check("nothing truncated before it was read", 0, found.missing(CLICKSTREAM_EVENTS) + events["truncated"]),
    ]
    if facts.learned is not None:
        checks.append(check("applied + late = interactions that the learner applied", interactions, facts.learned))
    return {"holds": all(one["holds"] for one in checks), "checks": checks}


def check(claim: str, left: object, right: object) -> dict[str, Any]:
    """One claim that two figures are equal, with both.

    >>> check("sent = received", 5, 4)["holds"]
    False
    """
    return {"claim": claim, "left": left, "right": right, "holds": left == right}


def counted(facts: Facts, topic: str, name: str) -> int:
    """A count of the ledger since the replay began."""
    now, before = (_topic(side, topic).get("counts", {}).get(name, 0) for side in (facts.ledger, facts.before))
    return int(now - before)


def percentiles(values: Iterable[float]) -> dict[str, Any]:
    """The median and the 99th percentile; None where there is nothing.

    >>> percentiles([1, 2, 3])
    {'p50': 2.0, 'p99': 2.98, 'count': 3}
    """
    numbers = np.fromiter(values, dtype=float)
    if not len(numbers):
        return {"p50": None, "p99": None, "count": 0}
    p50, p99 = np.percentile(numbers, [50, 99]).tolist()
    return {"p50": p50, "p99": round(p99, 3), "count": len(numbers)}


def quality(totals: Mapping[tuple[str, str], tuple[int, float]]) -> dict[str, dict[str, Any]]:
    """The last totals of every expert, read back from Kafka.

    >>> quality({("mixture", "mrr"): (10, 0.25)})
    {'mixture': {'mrr': 0.25, 'count': 10}}
    """
    experts: dict[str, dict[str, Any]] = {}
    for (expert, metric), (count, value) in sorted(totals.items()):
        figures = experts.setdefault(expert, {})
        figures[metric] = value
        figures["count"] = max(count, figures.get("count", 0))
    return experts


def gate(finished: Mapping[str, Any]) -> dict[str, Any]:
    """A round and its gate's evidence."""
    names = ("number", "trigger", "interactions", "outcome", "version", "verdict", "training", "error")
    took_ms = (finished.get("finished_at_ms") or 0) - finished["triggered_at_ms"]
    return {name: finished.get(name) for name in names} | {"took_s": took_ms / 1000 if took_ms > 0 else None}


def versions() -> dict[str, str]:
    """Python and the packages that matter."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _swap(facts: Facts, release: Mapping[str, Any]) -> dict[str, Any]:
    """How long one release took from its trigger into the first worker, by the worker's word and by its rankings."""
    moments = [swap["swapped_at_ms"] for swap in facts.swaps if swap["sequence"] == release["sequence"]]
    swapped_ms = min(moments, default=None)
    served_ms = facts.found.first_served_ms.get(release["version"]) if release["kind"] == "release" else None
    known = [moment for moment in (swapped_ms, served_ms) if moment is not None]
    return {
        "version": release["version"],
        "sequence": release["sequence"],
        "kind": release["kind"],
        "triggered_at_ms": release["triggered_at_ms"],
        "released_at_ms": release["released_at_ms"],
        "swapped_at_ms": swapped_ms,
        "first_served_at_ms": served_ms,
        "release_s": (min(known) - release["triggered_at_ms"]) / 1000 if known else None,
    }


def _topic(ledger: Mapping[str, Any], topic: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ledger.get(topic, {})
    return found


def _sum(events: Mapping[str, int]) -> int:
    return sum(events[name] for name in OUTCOMES)


def _next_offsets(ledger: Mapping[str, Any]) -> dict[int, int]:
    offsets = _topic(ledger, CLICKSTREAM_EVENTS).get("next_offset", {})
    return {int(partition): offset for partition, offset in sorted(offsets.items()) if offset}


def _audited_offsets(found: Findings) -> dict[int, int]:
    return {
        partition: counted.next_offset
        for (topic, partition), counted in sorted(found.partitions.items())
        if topic == CLICKSTREAM_EVENTS and counted.next_offset > 0
    }
