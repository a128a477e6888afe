"""Our training step on a GPU: TFLOP/s and MFU in bf16; and how fast a matrix product is anywhere."""

import time
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.static import training_rows
from benchmarks.train_parts.loops import FULL, made_up, trainer
from learners.model import ModelConfig

BAR_MFU = 0.4
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bf16, by the data sheets
LARGE = ModelConfig(width=512, layers=8, heads=8, feed_forward=4, history_length=200, text_width=1, spare_rows=0)


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


def matrix_limit(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the most floating-point operations a second that a square matrix product reaches here.

    On the CPU a CPU second, because others may share its cores.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        began = clock()
        product = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    assert product.shape == (side, side)
    return 2 * side**3 / best
