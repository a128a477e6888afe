"""The Markdown page of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.shelf import looked_at

Reports = Mapping[str, Mapping[str, Any]]

SHOWN = ("hit_rate_10", "ndcg_10", "mrr")
FIGURES = {
    "precision_10": "precision@10",
    "recall_10": "recall@10",
    "f1_10": "F1@10",
    "accuracy": "accuracy",
    "auc": "AUC",
    "ctr": "CTR",
    "cvr": "CVR",
    "coverage": "coverage",
    "novelty": "novelty, bits",
    "new_item_recall_10": "new-item recall@10",
}

_TRANSFER = ("forgetting", "backward", "forward")
_PROTOCOL = (
    "Every interaction is scored before it is learned from, over the whole catalogue. "
    "Intervals: 95 %, bootstrap over users."
)
_NOTES = (
    "CPU s: of all rounds, judging included. Forgetting and transfer: NDCG@10 of the shared model, releases against "
    "stretches of the stream. CTR and CVR: of views and of clicks of items that stood in the first ten, those that a "
    "click, cart or purchase (CVR: a purchase) followed within a day; `-` where the log has none."
)


def page(report: Mapping[str, Any], *, plots: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        report: What `infra.evaluation.evaluate` returned.
        plots: File names of plots beside the page.
    """
    reports: Reports = report["strategies"]
    first = next(iter(reports))
    events = next(iter(reports.values()))["events"]
    parts = [
        "# Evaluation",
        f"`{report['events']}`, {events:,} events, seed {report['seed']}. {_PROTOCOL}",
        *([f"{looked_at(report['pictures'])}.".capitalize()] if "pictures" in report else []),
        _table(
            ["strategy", "hit rate@10", "NDCG@10", "MRR", f"NDCG@10 against {first}", "CPU s", "steps", "releases"],
            [_row(name, found) for name, found in reports.items()],
        ),
        _table(["strategy", *FIGURES.values()], [_further(name, found) for name, found in reports.items()]),
        _table(
            ["strategy", "forgetting", "backward transfer", "forward transfer"],
            [
                [name, *(_number((found["transfer"] or {}).get(key), "+.4f") for key in _TRANSFER)]
                for name, found in reports.items()
            ],
        ),
        _NOTES,
        *(f"![{name}]({name})" for name in plots),
    ]
    return "\n\n".join(parts) + "\n"


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    against = (found["against_first"] or {}).get("ndcg_10")
    cost = found["cost"]
    return [
        name,
        *(_interval(found["metrics"].get(metric), ".4f") for metric in SHOWN),
        _interval(against, "+.4f"),
        f"{cost['round_cpu_s']:.1f}",
        f"{cost['steps']:,}",
        str(found["releases"]),
    ]


def _further(name: str, found: Mapping[str, Any]) -> list[str]:
    values = ((found["metrics"].get(metric) or {}).get("value") for metric in FIGURES)
    return [name, *(_number(value, ".4f") for value in values)]


def _interval(figure: Mapping[str, float] | None, form: str) -> str:
    """Return a figure and its interval.

    >>> _interval({"value": 0.25, "low": 0.2, "high": 0.3}, ".2f")
    '0.25 [0.20, 0.30]'
    """
    if figure is None or figure["value"] is None or figure["low"] is None:
        return "-"
    return f"{figure['value']:{form}} [{figure['low']:{form}}, {figure['high']:{form}}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
