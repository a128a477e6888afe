"""What all worked examples share: options, where data lie, data that we wrote, what is printed and drawn."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

EXAMPLES = Path(__file__).resolve().parent
DATA = EXAMPLES.parents[1] / "shared" / "data"
OUT = Path("alluvium-data") / "examples"


def options_of(name: str, description: str | None, arguments: list[str] | None, *, seeds: int) -> argparse.Namespace:
    """Read the options that every example has, and prepare for a repeatable run.

    Args:
        name: The example's folder.
        description: What `--help` says.
        arguments: Instead of the command line's; None: the command line's.
        seeds: Runs by default.

    Returns:
        `seeds` (a list), `out`, `data_dir` and `toy`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}.run", description=description)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others follow it")
    parser.add_argument("--seeds", type=int, default=seeds, help="runs that differ in their seed only")
    parser.add_argument("--out", type=Path, default=OUT / name, help="where figure and figures go")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where data sets lie that we did not write")
    parser.add_argument("--toy", action="store_true", help="small: does it still run?")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; expected 1 or more")
    options.seeds = list(range(options.seed, options.seed + options.seeds))
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return options


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


def spread(values: Sequence[float]) -> str:
    """Return the mean and the standard deviation over seeds.

    >>> spread([0.1, 0.2, 0.3]), spread([0.25])
    ('0.200 ± 0.100', '0.250')
    """
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, which is Markdown too.

    >>> show_table(["way", "NDCG"], [["scratch", "0.1"]])
    | way     | NDCG |
    | ------- | ---- |
    | scratch | 0.1  |
    """
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def canvas(columns: int = 1, *, width: float = 7.0, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its plots, side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    plots = figure.subplots(1, columns, squeeze=False)[0]
    for plot in plots:
        plot.spines[["top", "right"]].set_visible(False)
    return figure, list(plots)


def leave(name: str, figure: Figure, found: Mapping[str, Any], out: Path) -> None:
    """Write an example's figure and its numbers, and say where and what they cost."""
    figure.savefig(out / f"{name}.png", dpi=90)
    (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{out / name}.png, {out / name}.json; {time.process_time():.0f} s of CPU")
