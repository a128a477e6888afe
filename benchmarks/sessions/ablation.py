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
    training = config.training
    lacking["without replay"] = replace(config, training=replace(training, replay=0))
    lacking["rows never restarted"] = replace(config, training=replace(training, kept=1.0))
    lacking["rows restarted, nothing kept"] = replace(config, training=replace(training, kept=0.0))
    return lacking


def ablate(
    periods: Periods, config: RunConfig, *, updates: int, folder: Path, device: torch.device, say: Say
) -> list[dict[str, Any]]:
    """Return the mean figures of each variant over the first updates, seed 0; the first is the run itself.

    Args:
        periods: The data.
        config: Of the run.
        updates: How many.
        folder: The run's state, with seed 0 in it.
        device: Where the shared model trains.
        say: Told one line per update.
    """
    found = [
        _means("all", config, Run(periods, config, seed=0, folder=folder / "seed-0", device=device, say=say), updates)
    ]
    for number, (name, variant) in enumerate(variants(config).items()):
        say(f"ablation: {name}")
        own = folder / "ablation" / f"{number:02d}"
        run = Run(periods, variant, seed=0, folder=own, device=device, say=say)
        found.append(_means(name, variant, run, updates))
    return found


def _means(name: str, config: RunConfig, run: Run, updates: int) -> dict[str, Any]:
    done = run.updates(updates)
    own = WHO if config.with_model else ("fast_memory",)
    means = {who: {measure: sum(one[who][measure] for one in done) / len(done) for measure in NAMES} for who in own}
    return {"variant": name, "updates": len(done), **means}
