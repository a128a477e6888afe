"""`alluvium bench train`: samples/s of our training loop and of a plain PyTorch SASRec loop, and the matrix limit.

Both loops train the same network from the same weights on the same histories with the same batch size and learning
rate, and are judged by the same held-out loss afterwards. The plain loop is the one that is commonly copied: every
history padded to L, logits at every position, padding left out of the loss only by `ignore_index`, AdamW one tensor at
a time. The rows between it and ours turn its habits off one after the other, so that each cause shows its own share.
Repeats are interleaved; figures are medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ingest import machine
from benchmarks.static import SEQUENCES, Sequences, data_folder, held_out_rows, load, training_rows
from learners.model import ModelConfig, SharedModel
from learners.round_input import RoundConfig
from learners.strategies import strategy_named
from learners.training import Trainer
from learners.training_rows import Rows

BAR, BAR_MFU = 3.0, 0.4
PLAIN, MIXED, OURS = "plain PyTorch loop", "ours, batches of mixed length", "ours, batches of alike length"
SAMPLED = "ours, alike length, sampled softmax"
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bf16, by the data sheets


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    steps: int  # per repeat
    longer: int  # steps after which losses are compared: enough to have learned something
    batch_rows: int
    repeats: int
    held_out: int
    matrix: int  # side of the square matrices that measure the limit
    negatives: int
    config: ModelConfig


FULL = Size(
    steps=6,
    longer=80,
    batch_rows=64,
    repeats=3,
    held_out=1_000,
    matrix=1_024,
    negatives=2_048,
    config=ModelConfig(text_width=1, spare_rows=0),
)
TOY = replace(
    FULL,
    steps=3,
    longer=4,
    batch_rows=16,
    held_out=32,
    matrix=128,
    negatives=64,
    config=replace(FULL.config, width=16, layers=1),
)
LARGE = ModelConfig(width=512, layers=8, heads=8, feed_forward=4, history_length=200, text_width=1, spare_rows=0)


class MixedRows(Rows):
    """Rows whose batches are drawn whatever their lengths, as the plain loop draws them."""

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield row numbers in random batches."""
        yield from torch.randperm(len(self), generator=generator).split(size)


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What sets loops apart.

    Args:
        trims: Histories are cut into batches of alike length and padded to the longest there, not to L.
        real_only: Logits only where there is an item to predict, not at every position.
        fused: AdamW as one kernel, not one tensor at a time.
    """

    trims: bool = False
    real_only: bool = False
    fused: bool = False


REAL_ONLY = "+ logits at real positions only"
LADDER = {
    PLAIN: Habits(),
    REAL_ONLY: Habits(real_only=True),
    "+ batches of alike length": Habits(real_only=True, trims=True),
    "+ fused AdamW": Habits(real_only=True, trims=True, fused=True),
}


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
        "longer_losses": longer_losses(data, size),
        "matrix_limit_gflops": limit / 1e9,
        "ours_flops_per_sample": flops,
        # CPU seconds, because the limit is the best of many tries while the loop shares its core with others
        "ours_share_of_limit": flops * medians[OURS]["samples_per_cpu_s"] / limit,
        "runs": runs,
    }


def longer_losses(data: Sequences, size: Size) -> dict[str, float]:
    """Return the held-out loss of the loops after the same `longer` steps.

    The plain loop is stood for by the one that differs from it only in leaving out logits that its loss ignores: its
    numbers are the same (`loss_above_plain` shows it), and it takes a fraction of the time.
    """
    cut = [person[:-2] for person in data.people]
    order = np.random.default_rng(0).permutation(len(cut) - size.held_out)[: size.longer * size.batch_rows]
    rows = training_rows([cut[row] for row in order])
    held_out = held_out_rows([person[:-1] for person in data.people[-size.held_out :]])
    every = loops(data, size, seed=0)
    return {"untrained": trainer(data, size, seed=0).evaluate(held_out)} | {
        name: every[name](rows).evaluate(held_out) for name in (REAL_ONLY, MIXED, OURS, SAMPLED)
    }


def loops(data: Sequences, size: Size, *, seed: int) -> dict[str, Callable[[Rows], Trainer]]:
    """Return every loop: rows in, the trainer of the trained model out."""

    def plain(habits: Habits) -> Callable[[Rows], Trainer]:
        return lambda rows: plain_loop(trainer(data, size, seed=seed), rows, habits, size)

    def ours(negatives: int, kind: type[Rows] = Rows) -> Callable[[Rows], Trainer]:
        def loop(rows: Rows) -> Trainer:
            made = trainer(data, size, seed=seed, negatives=negatives)
            given = kind(rows.tokens, rows.targets, rows.lengths, rows.weight, rows.replayed)
            made.train(given, nothing(rows), beat=lambda _step, _steps: None)
            return made

        return loop

    return {name: plain(habits) for name, habits in LADDER.items()} | {
        MIXED: ours(0, MixedRows),
        OURS: ours(0),
        SAMPLED: ours(size.negatives),
    }


def trainer(data: Sequences, size: Size, *, seed: int, negatives: int = 0, device: str = "cpu") -> Trainer:
    """Return our training loop around fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    model = SharedModel(size.config, capacity=data.items)
    described = torch.from_numpy(data.described)
    model.admit(1, described[1:])
    config = RoundConfig(
        batch_rows=size.batch_rows,
        schedule="constant",
        full_softmax_items=0 if negatives else data.items,
        sampled_negatives=negatives or 1,
    )
    return Trainer(
        model.to(device),
        text_vectors=described.to(device),
        active=torch.arange(data.items, device=device) > 0,
        config=config,
        epochs=1,
        learning_rate=config.first_learning_rate,
        seed=seed,
        strategy=strategy_named("naive"),
        teacher=None,
    )


def nothing(rows: Rows) -> Rows:
    """Return no rows: training then neither validates nor stops early."""
    return Rows(rows.tokens[:0], rows.targets[:0], rows.lengths[:0], rows.weight[:0], rows.replayed[:0])


def timed(loop: Callable[[Rows], Trainer], rows: Rows, held_out: Rows, size: Size) -> dict[str, float]:
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


def plain_loop(trainer: Trainer, rows: Rows, habits: Habits, size: Size) -> Trainer:
    """Train as the commonly copied loop does, as far as `habits` do not mend it."""
    model, length = trainer.model, size.config.history_length
    everything = torch.arange(model.capacity)
    text = torch.zeros(model.capacity, 1)
    rate, decay = trainer.learning_rate, trainer.config.weight_decay
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=decay, fused=habits.fused, foreach=False if not habits.fused else None
    )
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(rows), generator=generator).split(size.batch_rows)
    model.train()
    for batch in rows.batches(size.batch_rows, generator) if habits.trims else shuffled:
        part = rows.take(batch) if habits.trims else padded(rows, batch, length)
        items = model.item_vectors(text, everything)  # [N, D]
        users = model(items[part.tokens[:, :-1]], (part.lengths - 1).clamp(min=0))  # [B, L, D]
        loss = position_loss(users, items, part, real_only=habits.real_only)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trainer


def position_loss(users: Tensor, items: Tensor, part: Rows, *, real_only: bool) -> Tensor:
    """Return the mean cross-entropy of every next item among all, padding (item 0) never competing.

    Both ways give the same number; they differ in how many logits they compute.
    """
    following = part.tokens[:, 1:] * part.targets[:, 1:]  # [B, L]; 0 where there is nothing to predict
    if real_only:
        real = following > 0
        return F.cross_entropy(users[real] @ items[1:].T, following[real] - 1)
    logits = users @ items[1:].T  # [B, L, N - 1]
    return F.cross_entropy(logits.flatten(0, 1), following.flatten() - 1, ignore_index=-1)


def padded(rows: Rows, batch: Tensor, length: int) -> Rows:
    """Return some rows, padded to L inputs whatever their lengths."""
    missing = length + 1 - rows.tokens.shape[1]
    tokens, targets = (F.pad(part[batch], (0, missing)) for part in (rows.tokens, rows.targets))
    return Rows(tokens, targets, rows.lengths[batch], rows.weight[batch], rows.replayed[batch])


def matrix_limit(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the most floating-point operations a second that a square matrix product reaches here."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        product = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    assert product.shape == (side, side)
    return 2 * side**3 / best


def flops_per_sample(data: Sequences, size: Size) -> float:
    """Return the matrix operations that our loop spends on one history, forward and backward."""
    rows = training_rows([person[:-2] for person in data.people[: size.batch_rows]])
    with FlopCounterMode(display=False) as counter:
        trainer(data, size, seed=0).loss(rows).backward()
    return float(counter.get_total_flops()) / size.batch_rows


def gpu(console: Console) -> dict[str, Any]:
    """TFLOP/s and MFU in bf16 at width 512, 8 layers and at the default size, on full histories; or why not."""
    if not torch.cuda.is_available():
        console.print("GPU: not run: no GPU here")
        return {"run": False, "why": "no GPU here"}
    device = torch.device("cuda")
    limit = matrix_limit(8_192, device, torch.bfloat16)
    name = torch.cuda.get_device_name()
    peak = next((tflops * 1e12 for model, tflops in PEAK_TFLOPS.items() if model in name), limit)
    found: dict[str, Any] = {"run": True, "device": name, "matrix_limit_tflops": limit / 1e12, "peak": peak / 1e12}
    for label, config in (("large", LARGE), ("default", FULL.config)):
        length = config.history_length
        size = replace(FULL, config=config, batch_rows=256)
        data = made_up(people=size.batch_rows, seed=0, length=length + 2)
        made = trainer(data, size, seed=0, device="cuda")
        rows = training_rows([person[-(length + 1) :] for person in data.people], length=length).to(device)
        optimizer = torch.optim.AdamW(made.model.parameters(), fused=True)
        with FlopCounterMode(display=False) as counter:
            made.loss(rows).backward()
        for step in range(25):
            if step == 5:  # the first ones choose kernels
                torch.cuda.synchronize()
                began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            made.loss(rows).backward()
            optimizer.step()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / 20
        reached = counter.get_total_flops() / seconds
        found[label] = {
            "tflops": reached / 1e12,
            "mfu": reached / peak,
            "share_of_matrix_limit": reached / limit,
            "samples_per_s": len(rows) / seconds,
        }
        console.print(f"GPU {label}: {reached / 1e12:.1f} TFLOP/s, MFU {reached / peak:.1%} (bar {BAR_MFU:.0%})")
    return found


def made_up(*, people: int, seed: int, items: int = 2_000, length: int | None = None) -> Sequences:
    """Histories as long as a shop's (median 6, a long tail), in which an item is often followed by the next one."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(1.8, 0.6, people)).astype(int), 4, 52) if length is None else [length] * people
    walks = []
    for steps in lengths:
        jumps = np.where(rng.random(steps) < 0.7, 1, rng.integers(items, size=steps))
        walks.append((rng.integers(items) + np.cumsum(jumps)) % items + 1)
    return Sequences(people=walks, items=items + 1, described=np.zeros((items + 1, 1), dtype=np.float32))


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
    longer = ", ".join(f"{name} {loss:.4f}" for name, loss in report["longer_losses"].items())
    return [
        f"{MIXED} / plain: {clock:.2f} by the clock, {cpu_time:.2f} by CPU time (bar {BAR})",
        f"held-out loss after {report['size']['longer']} steps: {longer}",
        f"matrix limit {limit:.1f} GFLOP/s; ours reaches {share:.0%} of it in matrix products alone",
    ]


if __name__ == "__main__":
    main()
