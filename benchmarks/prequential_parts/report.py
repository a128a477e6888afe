"""From ranks to the report: figures with intervals, paired differences, claims, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.prequential_parts.contenders import CONTENDERS, DEFAULT, RETRAINING
from benchmarks.prequential_parts.intervals import MEASURES, Bootstrap, mean_gains, scored_by
from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import REFIT_EVERY_MS, Outcome

Outcomes = Mapping[str, Sequence[Outcome]]

SERVED, SHARED, MEMORY = "served", "shared_model", "fast_memory"
MOST_TRAINING_SHARE = 0.10
_NAMES = {"hit_rate_10": "hit rate@10", "ndcg_10": "NDCG@10"}


def figures(log: Log, outcomes: Outcomes, *, draws: int) -> dict[str, Any]:
    """Return everything that is known of one log's run, JSON-able.

    Args:
        log: The log.
        outcomes: By contender, one per seed.
        draws: Of the bootstrap.
    """
    bootstrap = Bootstrap(log.users, draws=draws)
    report: dict[str, Any] = {
        "interactions": len(log),
        "people": log.people,
        "items": log.catalogue - 1,
        "days": float((log.times_ms[-1] - log.times_ms[0]) / 86_400_000),
        "barred_own_items": log.once,
        "contenders": {name: _contender(bootstrap, name, seeds) for name, seeds in outcomes.items()},
        "train_s": {name: float(np.mean([seed.train_s for seed in seeds])) for name, seeds in outcomes.items()},
        "windows": _windows(log, outcomes),
    }
    if DEFAULT in outcomes:
        others = [name for name in outcomes if name != DEFAULT]
        report["default_minus"] = {
            name: _difference(bootstrap, outcomes[DEFAULT], outcomes[name], SERVED) for name in others
        }
        report["shared_model_default_minus"] = {
            name: _difference(bootstrap, outcomes[DEFAULT], outcomes[name], SHARED)
            for name in others
            if all(SHARED in seed.ranks for seed in outcomes[name])
        }
        report["claims"] = claims(report)
    if {DEFAULT, RETRAINING} <= set(outcomes):
        report["training_share"] = report["train_s"][DEFAULT] / max(1e-9, report["train_s"][RETRAINING])
        report["rounds_share"] = _rounds_s(outcomes[DEFAULT]) / max(1e-9, _rounds_s(outcomes[RETRAINING]))
    return report


def claims(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is claimed of the default strategy, and whether it holds, from a log's figures."""
    found: dict[str, Any] = {}
    seconds = report["train_s"]
    for name, by_measure in report["default_minus"].items():
        for measure, gap in by_measure.items():
            at_least = name == RETRAINING
            found[f"{measure} {'at least' if at_least else 'above'} {name}"] = bool(
                gap["value"] >= 0 if at_least else gap["value"] > 0
            )
    if RETRAINING in seconds:
        share = seconds[DEFAULT] / max(1e-9, seconds[RETRAINING])
        found[f"at most {MOST_TRAINING_SHARE:.0%} of retraining's training seconds"] = share <= MOST_TRAINING_SHARE
    return found


def _rounds_s(seeds: Sequence[Outcome]) -> float:
    """Return the mean seconds of all rounds, judging and writing included."""
    return float(np.mean([seed.train_s + seed.facts.get("judging_s", 0.0) for seed in seeds]))


def _contender(bootstrap: Bootstrap, name: str, seeds: Sequence[Outcome]) -> dict[str, Any]:
    experts = {}
    for expert in seeds[0].ranks:
        ranks = [seed.ranks[expert] for seed in seeds]
        scored = scored_by(*ranks)
        experts[expert] = {
            measure: asdict(bootstrap.mean(values, scored)) for measure, values in mean_gains(ranks).items()
        } | {"interactions": int(scored.sum())}
    return {
        "says": CONTENDERS[name].says,
        "seeds": len(seeds),
        "experts": experts,
        "train_s": [seed.train_s for seed in seeds],
        "cpu_s": [seed.cpu_s for seed in seeds],
        "facts": [seed.facts for seed in seeds],
    }


def _difference(
    bootstrap: Bootstrap, ours: Sequence[Outcome], theirs: Sequence[Outcome], expert: str
) -> dict[str, dict[str, float]]:
    """Return ours minus theirs with its paired interval, on the interactions that both were there to rank."""
    mine, other = ([seed.ranks[expert] for seed in seeds] for seeds in (ours, theirs))
    scored = scored_by(*mine, *other)
    first, second = mean_gains(mine), mean_gains(other)
    return {measure: asdict(bootstrap.mean(first[measure] - second[measure], scored)) for measure in MEASURES}


def _windows(log: Log, outcomes: Outcomes) -> dict[str, Any]:
    """Return hit rates by window of 14 days."""
    windows = log.windows(REFIT_EVERY_MS)
    rates: dict[str, list[float]] = {}
    for name, seeds in outcomes.items():
        hits = mean_gains([seed.ranks[SERVED] for seed in seeds])["hit_rate_10"]
        rates[name] = [float(hits[start:end].mean()) for start, end in windows]
    days = [float((log.times_ms[start] - log.times_ms[0]) / 86_400_000) for start, _ in windows]
    return {"days": days, "interactions": [end - start for start, end in windows], "hit_rate_10": rates}


def rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the main table's cells, best hit rate first."""
    table: list[tuple[float, list[str]]] = []
    for name, contender in report["contenders"].items():
        figures_of = contender["experts"][SERVED]
        gaps = report.get("default_minus", {}).get(name)
        cells = [name]
        for measure in MEASURES:
            cells.append(shown(figures_of[measure]))
            cells.append("" if gaps is None else shown(gaps[measure], sign=True))
        cells.append(f"{float(np.mean(contender['train_s'])):,.0f}")
        table.append((figures_of["hit_rate_10"]["value"], cells))
    return [cells for _, cells in sorted(table, key=lambda row: -row[0])]


def expert_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table of our own experts."""
    found = []
    for name, contender in report["contenders"].items():
        for expert, figures_of in contender["experts"].items():
            if len(contender["experts"]) > 1:
                cells = [name, expert, *(shown(figures_of[measure]) for measure in MEASURES)]
                found.append([*cells, f"{figures_of['interactions']:,}"])
    return found


def shared_lines(report: Mapping[str, Any]) -> list[str]:
    """Return how the default's shared model alone stands against the others', a line each."""
    return [
        f"shared model alone, default minus {name}: "
        + ", ".join(f"{_NAMES[measure]} {shown(gaps[measure], sign=True)}" for measure in MEASURES)
        for name, gaps in report.get("shared_model_default_minus", {}).items()
    ]


def shown(interval: Mapping[str, float], *, sign: bool = False) -> str:
    """Return a figure and its interval as a cell.

    >>> shown({"value": 0.12345, "low": 0.1, "high": 0.2}), shown({"value": 0.5, "low": 0, "high": 1}, sign=True)
    ('0.1235 [0.1000, 0.2000]', '+0.5000 [+0.0000, +1.0000]')
    """
    form = "+.4f" if sign else ".4f"
    return f"{interval['value']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


HEADER = (
    "contender",
    *(cell for measure in MEASURES for cell in (_NAMES[measure], f"default's minus its {_NAMES[measure]}")),
    "training CPU s",
)
EXPERT_HEADER = ("contender", "expert", *_NAMES.values(), "interactions")


def markdown(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of every log as Markdown."""
    parts = []
    for data, report in reports.items():
        parts.append(
            f"### {data}: {report['interactions']:,} interactions of {report['people']:,} people with "
            f"{report['items']:,} items in {report['days']:.0f} days\n"
        )
        parts.append(_markdown_table(HEADER, rows(report)))
        parts.append(_markdown_table(EXPERT_HEADER, expert_rows(report)))
        for claim, holds in report.get("claims", {}).items():
            parts.append(f"- {claim}: {'holds' if holds else 'does NOT hold'}")
        parts += [f"- {line}" for line in shared_lines(report)]
        if (share := report.get("training_share")) is not None:
            whole = report["rounds_share"]
            parts.append(f"- training seconds, default / retraining: {share:.1%}; with judging and writing {whole:.1%}")
        parts += [f"- {name} did not run: {cause}" for name, cause in report.get("failed", {}).items()]
        parts.append("")
    return "\n".join(parts)


def _markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *cells)]
    return "\n".join(lines) + "\n"


def console_table(data: str, report: Mapping[str, Any]) -> Table:
    """Return the main table for the terminal."""
    page = Table(*HEADER, title=f"bench prequential: {data}")
    for cells in rows(report):
        page.add_row(*cells)
    return page
