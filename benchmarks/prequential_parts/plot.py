"""Two pictures a log: hit rate over time, and what it cost."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.prequential_parts.contenders import DEFAULT, RETRAINING

_STRONG = {DEFAULT: "tab:blue", RETRAINING: "tab:red", "naive": "tab:green"}
_WEAK = ("tab:purple", "tab:brown", "tab:pink", "tab:gray", "tab:olive", "tab:cyan", "tab:orange")


def plot(reports: Mapping[str, Mapping[str, Any]], target: Path) -> None:
    """Draw hit rate@10 by windows of 14 days, and hit rate@10 against training seconds, as PNG.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed (`pip install alluvium[plots]`).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure(figsize=(11, 3.8 * len(reports)), layout="constrained")
    grid = figure.subplots(len(reports), 2, squeeze=False, width_ratios=(2, 1))
    for (over_time, cost), (data, report) in zip(grid, reports.items(), strict=True):
        windows = report["windows"]
        weak = [name for name in windows["hit_rate_10"] if name not in _STRONG]
        colours = _STRONG | dict(zip(weak, cycle(_WEAK), strict=False))
        for name, rates in windows["hit_rate_10"].items():
            line = {"linewidth": 2, "linestyle": "-"} if name in _STRONG else {"linewidth": 1, "linestyle": ":"}
            over_time.plot(windows["days"], rates, label=name, color=colours[name], **line)
        over_time.set(title=data, xlabel="days of event time", ylabel="hit rate@10, windows of 14 days")
        over_time.legend(fontsize=7)
        for name, contender in report["contenders"].items():
            seconds = max(0.1, sum(contender["train_s"]) / len(contender["train_s"]))
            rate = contender["experts"]["served"]["hit_rate_10"]
            cost.errorbar(
                seconds,
                rate["value"],
                yerr=[[rate["value"] - rate["low"]], [rate["high"] - rate["value"]]],
                fmt="o",
                color=colours[name],
            )
            cost.annotate(name, (seconds, rate["value"]), fontsize=7, xytext=(4, 4), textcoords="offset points")
        cost.set(xscale="log", xlabel="CPU seconds of training", ylabel="hit rate@10, whole log", title="cost")
    figure.savefig(target, dpi=75)
