"""What each part is worth: the same run without it, on the first updates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.sessions.data import Periods
from benchmarks.sessions.examination import WHO
from benchmarks.sessions.metrics import NAMES
from benchmarks.sessions.opinions import MEMORY_EXPERTS, REPEATS
from benchmarks.sessions.run import Run, RunConfig, Say

GROUPS = {
    "transitions": ("next", "after", "before"),
    "neighbours": ("neighbours",),
    "spectral": ("spectral", "spectral_last"),
    "popularity": ("popularity", "new"),
    "repeats": REPEATS,
}


def variants(config: RunConfig) -> dict[str, RunConfig]:
    """Return the runs by what they lack; those of the fast memory leave the shared model out, so that it shows."""
    memory = replace(config, with_model=False)
    lacking = {"fast memory": memory}
    for name, experts in GROUPS.items():
        rest = tuple(expert for expert in MEMORY_EXPERTS if expert not in experts)
        lacking[f"fast memory without {name}"] = replace(memory, experts=rest)
        lacking[f"fast memory, {name} alone"] = replace(memory, experts=experts)
    lacking["all"] = config
    training = config.training
    lacking["without replay"] = replace(config, training=replace(training, replay=0.0))
    lacking["rows restarted from scratch (nothing kept)"] = replace(config, training=replace(training, kept=0.0))
    lacking["rows never restarted (all kept)"] = replace(config, training=replace(training, kept=1.0))
    return lacking


def ablate(
    periods: Periods, config: RunConfig, *, updates: int, folder: Path, device: torch.device, say: Say
) -> list[dict[str, Any]]:
    """Return the mean figures of each variant over the first updates, seed 0."""
    found = []
    for number, (name, variant) in enumerate(variants(config).items()):
        say(f"ablation: {name}")
        run = Run(periods, variant, seed=0, folder=folder / f"{number:02d}", device=device, say=say)
        done = run.updates(updates)
        means = {
            who: {measure: sum(one[who][measure] for one in done) / len(done) for measure in NAMES}
            for who in WHO
            if who in done[0]
        }
        found.append({"variant": name, "updates": len(done), **means})
    return found
