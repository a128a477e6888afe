"""The plots of an evaluation, as PNG: quality over time, what is forgotten, and what quality costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Reports = Mapping[str, Mapping[str, Any]]

_FIRST: dict[str, Any] = {"color": "black", "linewidth": 2.4}
_OTHERS: dict[str, Any] = {"color": "0.75", "linewidth": 0.8}
HIGHLIGHTED = 8  # lines that a person can tell apart; further strategies are drawn thin and grey


def draw(reports: Reports, folder: Path) -> list[Path]:
    """Write every plot into a folder and return their paths.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed (`pip install alluvium[plots]`).
    """
    plots = {"quality.png": _quality, "forgetting.png": _forgetting, "cost.png": _cost}
    paths = []
    for name, plot in plots.items():
        figure = plot(reports)
        figure.savefig(folder / name, dpi=120)
        paths.append(folder / name)
    return paths


def ranked(reports: Reports) -> list[str]:
    """Strategies by NDCG@10, best first.

    >>> ranked({"a": {"metrics": {"ndcg_10": {"value": 0.1}}}, "b": {"metrics": {"ndcg_10": {"value": 0.2}}}})
    ['b', 'a']
    """
    return sorted(reports, key=lambda name: -(reports[name]["metrics"].get("ndcg_10", {}).get("value") or 0.0))


def _quality(reports: Reports) -> Any:
    """Hit rate of the mixture in each window, with releases as ticks below and drift alarms as dotted lines."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    order = ranked(reports)
    first = next(iter(reports))
    plain = [name for name in order if name != first][HIGHLIGHTED - 1 :]
    for name in sorted(order, key=lambda name: name not in plain):  # grey ones lie below
        points = [
            (point["interactions"], point["value"])
            for point in reports[name]["curve"]
            if (point["expert"], point["metric"]) == ("mixture", "hit_rate_10")
        ]
        label, style = (None, _OTHERS) if name in plain else (name, _FIRST if name == first else {"linewidth": 1.3})
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    if plain:
        axes.plot([], [], label=f"{len(plain)} more", **_OTHERS)
    for gate in reports[first]["gates"]:
        passed = gate.get("outcome") == "passed"
        axes.plot(
            gate["interactions"], 0.0, marker="^" if passed else "x", color="green" if passed else "0.4", clip_on=False
        )
    for event in reports[first]["drift"]:
        if event["level"] == "alarm":
            axes.axvline(event["interactions"], color="red", alpha=0.5, linestyle=":")
    axes.set(
        xlabel=f"interactions (of {first}: triangle: release, cross: round without one, dotted red: drift alarm)",
        ylabel="hit rate@10 in the window",
        title="Prequential quality",
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _forgetting(reports: Reports) -> Any:
    """One square a strategy: NDCG@10 of each release (down) on each stretch of the stream (across)."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    known = {name: reports[name]["transfer"] for name in ranked(reports) if reports[name]["transfer"]}
    columns = max(1, min(5, len(known)))
    rows = max(1, -(-len(known) // columns))
    figure = Figure(figsize=(2.6 * columns + 1.2, 2.5 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    highest = max((value for found in known.values() for row in found["matrix"] for value in row if value), default=1.0)
    image = None
    for place, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if place >= len(known):
            continue
        name, found = list(known.items())[place]
        matrix = [[float("nan") if value is None else value for value in row] for row in found["matrix"]]
        axes.set_axis_on()
        image = axes.imshow(matrix, vmin=0, vmax=highest, cmap="viridis", aspect="auto")
        forgotten = "" if found["forgetting"] is None else f"\nforgetting {found['forgetting']:+.3f}"
        axes.set_title(f"{name}{forgotten}", fontsize=9)
        axes.set_xticks(range(len(matrix[0])), [str(number + 1) for number in range(len(matrix[0]))], fontsize=7)
        axes.set_yticks(range(len(matrix)), [str(number + 1) for number in range(len(matrix))], fontsize=7)
    figure.supxlabel("stretch of the stream: release n has learned those up to n", fontsize=9)
    figure.supylabel("release", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=list(grid.flat), label="NDCG@10 of the shared model", shrink=0.8)
    return figure


def _cost(reports: Reports) -> Any:
    """NDCG@10 against the CPU seconds of all rounds; the interval is that of the difference from the first strategy."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    first, numbers = next(iter(reports)), []
    for number, name in enumerate(ranked(reports), start=1):
        quality, seconds = reports[name]["metrics"].get("ndcg_10"), reports[name]["cost"]["round_cpu_s"]
        if quality is None or quality["value"] is None:
            continue
        against = (reports[name]["against_first"] or {}).get("ndcg_10")
        bar = None if against is None else [[against["value"] - against["low"]], [against["high"] - against["value"]]]
        colour = "tab:red" if name == first else "tab:blue"
        axes.errorbar(seconds, quality["value"], yerr=bar, fmt="o", color=colour, elinewidth=0.6, alpha=0.8)
        axes.annotate(str(number), (seconds, quality["value"]), (5, 3), textcoords="offset points", fontsize=9)
        numbers.append(f"{number} {name}")
        if name == first:
            axes.axhline(quality["value"], color=colour, linewidth=0.8, linestyle=":")
    axes.text(1.02, 0.5, "\n".join(numbers), transform=axes.transAxes, va="center", fontsize=9)
    axes.set(
        xlabel="CPU seconds of all rounds",
        ylabel=f"NDCG@10 of what was served (bars: 95 % of the paired difference from {first})",
        title="Cost against quality",
    )
    axes.grid(alpha=0.3)
    return figure
