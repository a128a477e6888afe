"""The report as a Markdown page and as a plot: every update of ours beside the published curves."""

from pathlib import Path
from typing import Any

from benchmarks.sessions.errors import OptionError
from benchmarks.sessions.examination import WHO
from benchmarks.sessions.report import MEASURES

Figures = dict[str, Any]

TITLES = {"mixture": "mixture", "shared_model": "shared model", "fast_memory": "fast memory"}
MEASURE_TITLES = {"recall_20": "Recall@20", "mrr_20": "MRR@20"}


def markdown(report: Figures) -> str:
    """Return the report as tables."""
    parts = [
        _means(report),
        *(_curves(report, measure) for measure in MEASURE_TITLES),
        _cost(report),
        _ablation(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _means(report: Figures) -> str:
    """Means over the updates, ours and the published."""
    rows = []
    for name in WHO:
        if name in report["mean"]:
            mean = report["mean"][name]
            figures = [mean[measure] for measure in MEASURES]
            rows.append([f"**{TITLES[name]}**", *(f"{figure:.2f}" for figure in figures)])
    methods = dict.fromkeys(curve["method"] for curve in report["published"])
    count = len(report["updates"])
    for method in methods:
        own = {curve["measure"]: curve["values"][:count] for curve in report["published"] if curve["method"] == method}
        means = [f"{sum(own[m]) / len(own[m]):.2f}" if own.get(m) else "" for m in MEASURE_TITLES]
        rows.append([f"{method}, published", *means, "", "", ""])
    return _table(["mean of updates", "Recall@20", "MRR@20", "Recall@10", "MRR@10", "new items' Recall@20"], rows)


def _curves(report: Figures, measure: str) -> str:
    """One measure, update by update."""
    published = [curve for curve in report["published"] if curve["measure"] == measure]
    retrained = {one["update"]: one for one in report["full_retraining"]}
    head = [MEASURE_TITLES[measure], *(f"**{TITLES[name]}**" for name in WHO)]
    head += ["our full retraining"] if retrained else []
    head += [f"{curve['method']}, published" for curve in published]
    rows = []
    for place, update in enumerate(report["updates"]):
        row = [str(update["update"]), *(f"{update[name][measure]:.2f}" for name in WHO)]
        if retrained:
            own = retrained.get(update["update"])
            row.append(f"{own[measure]:.2f}" if own else "")
        row += [f"{curve['values'][place]:.2f}" if place < len(curve["values"]) else "" for curve in published]
        rows.append(row)
    return _table(head, rows)


def _cost(report: Figures) -> str:
    cost = report["train_s"]
    if cost["ours"] is None:
        return ""
    rows = [
        [str(one["update"]), f"{one['ours']:.0f}", str(one["ours_epochs"]), f"{one['full_retraining']:.0f}",
         str(one["full_retraining_epochs"]), f"{one['ours'] / one['full_retraining']:.3f}"]
        for one in cost["each"]
    ]  # fmt: skip
    rows.append(["sum", f"{cost['ours']:.0f}", "", f"{cost['full_retraining']:.0f}", "", f"**{cost['ratio']:.3f}**"])
    return _table(["update", "ours, s", "epochs", "full retraining, s", "epochs", "ratio"], rows)


def _ablation(report: Figures) -> str:
    """What each part is worth, if it was asked."""
    rows = []
    for one in report.get("ablation", []):
        shown = [f"{one[name]['recall_20']:.2f} / {one[name]['mrr_20']:.2f}" if name in one else "" for name in WHO]
        rows.append([one["variant"], *shown])
    head = ["Recall@20 / MRR@20", *(TITLES[name] for name in WHO)]
    return _table(head, rows) if rows else ""


def plot(report: Figures, path: Path) -> None:
    """Write the curves as a PNG.

    Raises:
        OptionError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - of the extra `plots`

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        raise OptionError(option="--plot", value=path, expected='matplotlib: pip install "alluvium[plots]"') from None
    figure, sides = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for side, (measure, title) in zip(sides, MEASURE_TITLES.items(), strict=True):
        for curve in (one for one in report["published"] if one["measure"] == measure):
            values = curve["values"][: len(report["updates"])]
            label = f"{curve['method']}, published"
            side.plot(range(1, len(values) + 1), values, linewidth=1, linestyle="--", label=label)
        for name in WHO:
            values = [update[name][measure] for update in report["updates"]]
            side.plot(range(1, len(values) + 1), values, linewidth=2, marker="o", markersize=3, label=TITLES[name])
        if report["full_retraining"]:
            own = [(one["update"], one[measure]) for one in report["full_retraining"]]
            side.scatter(*zip(*own, strict=True), marker="x", color="black", label="our full retraining")
        side.set(xlabel="update", ylabel="percent", title=title)
    sides[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=90)
    plt.close(figure)
