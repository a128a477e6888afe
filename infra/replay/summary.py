"""The report for people: one screen."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from infra.replay.report import METRICS


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the report's main figures."""
    console.print(Group(_figures(report), _quality(report), *_verdicts(report)))


def _figures(report: Mapping[str, Any]) -> RenderableType:
    events, freshness = report["events"], report["freshness_ms"]
    counts = ", ".join(f"{events[name]:,} {name}" for name in ("applied", "rejected", "duplicate", "late", "erased"))
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("events", f"{events['received']:,} received: {counts}")
    table.add_row("throughput", f"{_number(report['throughput_eps'])} events/s; {report['wall_s']:.1f} s in all")
    for name in ("feature", "ranking"):
        table.add_row(f"{name} freshness", _spread(freshness.get(name) or {}, " ms"))
    table.add_row("trigger to swap", _spread(report["release_s"], " s"))
    table.add_row(
        "learning", f"{report['rounds']} rounds, {report['releases']} releases, {report['rollbacks']} rollbacks"
    )
    alarms = sum(drift["level"] == "alarm" for drift in report["drift"])
    table.add_row("drift", f"{alarms} alarms, {len(report['drift']) - alarms} warnings")
    peaks = report.get("memory", {}).get("peak_bytes", {})
    if (regret := report["quality"].get("mixture", {}).get("regret")) is not None:
        table.add_row("regret", f"{regret:+.4f} nats an interaction against the best single expert (below 0: better)")
    table.add_row("peak memory", ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sorted(peaks.items())))
    return table


def _quality(report: Mapping[str, Any]) -> RenderableType:
    table = Table("expert", *METRICS, "targets")
    rows = sorted(report["quality"].items(), key=lambda row: -(row[1].get("hit_rate_10") or 0))
    for expert, figures in rows:
        table.add_row(expert, *(_number(figures.get(name), 4) for name in METRICS), f"{figures.get('count', 0):,}")
    return table


def _verdicts(report: Mapping[str, Any]) -> Iterable[RenderableType]:
    for one in report["reconcile"]["checks"]:
        if not one["holds"]:
            yield Text(f"does NOT reconcile: {one['claim']}: {one['left']} against {one['right']}", style="bold red")
    if report["reconcile"]["holds"]:
        yield Text("every count reconciles", style="green")
    for recount in report.get("recounts", ()):
        found = len(recount["differences"])
        line = (
            f"recount {recount['moment']}: {recount['users']} users and {recount['items']} items, {found} differences"
        )
        yield Text(line, style="bold red" if found else "green")
        yield from (Text(f"  {sentence}") for sentence in recount["differences"][:5])
    yield from (Text(f"problem: {problem}", style="bold red") for problem in report.get("problems", ()))


def _spread(figures: Mapping[str, Any], unit: str) -> str:
    return f"p50 {_number(figures.get('p50'))}{unit}, p99 {_number(figures.get('p99'))}{unit}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
