"""`alluvium bench train`: samples/s of our training loop and of a plain PyTorch SASRec loop, and the matrix limit.

Both loops train the same network from the same weights on the same histories with the same batch size and learning
rate, and are judged by the same held-out loss afterwards; and by the time that they take to the
loss that the plain one has after its steps. The plain loop is the one that is commonly copied: every
history padded to L, logits at every position, padding left out of the loss only by `ignore_index`, AdamW one tensor at
a time. The rows between it and ours turn its habits off one after the other, so that each cause shows its own share.
Repeats are interleaved; figures are medians.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ingest import machine
from benchmarks.static import SEQUENCES, Sequences, data_folder, held_out_rows, load, training_rows
from benchmarks.train_parts.equal_loss import equal_loss
from benchmarks.train_parts.gpu import gpu, matrix_limit
from benchmarks.train_parts.loops import FULL, MIXED, OURS, PLAIN, TOY, Loop, Size, loops, made_up, trainer
from learners.training_rows import Rows

BAR = 3.0


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="alluvium bench train", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of Amazon Beauty; else made up")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="a few steps: does it still run?")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    size, console = (TOY if options.toy else FULL), Console()
    is_real = not options.toy and (options.data / SEQUENCES).exists()
    data = load(options.data, width=0) if is_real else made_up(people=200 if options.toy else 8_000, seed=0)
    report = cpu(data, size, console) | {
        "data": "Amazon Beauty" if is_real else "made up",
        "gpu": gpu(console),
        "threads": options.threads,
        "size": asdict(size),
        "machine": machine(),
    }
    console.print(table(report))
    for line in words(report):
        console.print(line, soft_wrap=True)
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def cpu(data: Sequences, size: Size, console: Console) -> dict[str, Any]:
    """Run every loop on the CPU, interleaved; medians, and each as a ratio to the plain loop."""
    cut = [person[:-2] for person in data.people]
    held_out = held_out_rows([person[:-1] for person in data.people[-size.held_out :]])
    runs: dict[str, list[dict[str, float]]] = {}
    for repeat in range(size.repeats):
        order = np.random.default_rng(repeat).permutation(len(cut) - size.held_out)[: size.steps * size.batch_rows]
        rows = training_rows([cut[row] for row in order])
        for name, loop in loops(data, size, seed=repeat).items():
            if not repeat:
                loop(rows.take(torch.arange(size.batch_rows)))  # the first step ever chooses kernels and makes threads
            runs.setdefault(name, []).append(timed(loop, rows, held_out, size))
            console.print(f"repeat {repeat}: {name}: {runs[name][-1]['samples_per_s']:.0f} samples/s", soft_wrap=True)
    medians = {
        name: {figure: statistics.median(run[figure] for run in found) for figure in found[0]}
        for name, found in runs.items()
    }
    limit = matrix_limit(size.matrix, torch.device("cpu"), torch.float32)
    flops = flops_per_sample(data, size)
    plain = medians[PLAIN]
    return {
        "loops": medians,
        "ratios": {name: row["samples_per_s"] / plain["samples_per_s"] for name, row in medians.items()},
        "cpu_ratios": {name: row["samples_per_cpu_s"] / plain["samples_per_cpu_s"] for name, row in medians.items()},
        "loss_above_plain": {name: row["held_out_loss"] - plain["held_out_loss"] for name, row in medians.items()},
        "equal_loss": equal_loss(data, size),
        "matrix_limit_gflops": limit / 1e9,
        "ours_flops_per_sample": flops,
        "ours_share_of_limit": flops * medians[OURS]["samples_per_cpu_s"] / limit,
        "runs": runs,
    }


def timed(loop: Loop, rows: Rows, held_out: Rows, size: Size) -> dict[str, float]:
    """Train once; samples (histories) a second of wall and of CPU, and the held-out loss afterwards."""
    wall, used = time.perf_counter(), time.process_time()
    trained = loop(rows)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    samples = size.steps * size.batch_rows
    return {
        "samples_per_s": samples / wall,
        "samples_per_cpu_s": samples / used,
        "held_out_loss": trained.evaluate(held_out),
    }


def flops_per_sample(data: Sequences, size: Size) -> float:
    """Return the matrix operations that our loop spends on one history, forward and backward."""
    rows = training_rows([person[:-2] for person in data.people[: size.batch_rows]])
    with FlopCounterMode(display=False) as counter:
        trainer(data, size, seed=0).loss(rows).backward()
    return float(counter.get_total_flops()) / size.batch_rows


def table(report: dict[str, Any]) -> Table:
    """Every loop, as ratios to the plain one."""
    page = Table(title=f"bench train: {report['data']}, {report['threads']} CPU thread(s), medians")
    for name in ("loop", "samples/s", "of plain", "of plain, by CPU time", "held-out loss"):
        page.add_column(name, justify="left" if name == "loop" else "right")
    for name, row in report["loops"].items():
        page.add_row(
            name,
            f"{row['samples_per_s']:.0f}",
            f"{report['ratios'][name]:.2f}",
            f"{report['cpu_ratios'][name]:.2f}",
            f"{row['held_out_loss']:.4f}",
        )
    return page


def words(report: dict[str, Any]) -> list[str]:
    """The figures that the table has no room for."""
    limit, share = report["matrix_limit_gflops"], report["ours_share_of_limit"]
    clock, cpu_time = report["ratios"][MIXED], report["cpu_ratios"][MIXED]
    goal, untrained = report["equal_loss"]["plain"], report["equal_loss"]["untrained"]
    lines = [
        f"{MIXED} / plain: {clock:.2f} by the clock, {cpu_time:.2f} by CPU time (bar {BAR})",
        f"held-out loss: untrained {untrained:.4f}",
        f"{PLAIN}: {goal['loss']:.4f} after {goal['step']} steps, {goal['cpu_s']:.1f} CPU s",
    ]
    for name, found in report["equal_loss"]["ours"].items():
        at = f"{name}: {found['loss_at_equal_steps']:.4f} after as many steps; "
        lines.append(
            f"{at}at the plain loop's loss from step {found['steps']} on, {found['cpu_s']:.1f} CPU s: "
            f"{found['times_faster']:.2f} times faster"
            if found["steps"]
            else f"{at}the plain loop's loss was not reached in {report['size']['reach']} steps"
        )
    return [*lines, f"matrix limit {limit:.1f} GFLOP/s; ours reaches {share:.0%} of it in matrix products alone"]


if __name__ == "__main__":
    main()
