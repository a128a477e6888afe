"""`alluvium bench ader`: the protocol of the ADER paper, beside full retraining and the published curves.

For t = 1, 2, ...: learn from period t-1, once, and be tested on period t, every prefix of every session, all items seen
so far ranked. Nothing learns from period t before its test has ended.

Source: Mi, Lin & Faltings, "ADER: Adaptively Distilled Exemplar Replay Towards Continual Learning for Session-based
Recommendation", RecSys 2020.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.sessions.ablation import ablate
from benchmarks.sessions.allocation import keep_large_blocks
from benchmarks.sessions.data import read
from benchmarks.sessions.errors import OptionError
from benchmarks.sessions.fast_memory import MemoryConfig
from benchmarks.sessions.pages import markdown, plot
from benchmarks.sessions.published import read_published
from benchmarks.sessions.report import build
from benchmarks.sessions.run import Run, RunConfig, full_retraining
from benchmarks.sessions.shared_model import TrainingConfig
from benchmarks.sessions.state import claim
from benchmarks.sessions.toy import toy_periods

DIGINETICA = Path(__file__).resolve().parents[2] / "shared" / "data" / "diginetica_ader" / "sessions.parquet"
TOY = RunConfig(
    memory=MemoryConfig(rank=16),
    training=TrainingConfig(width=16, max_epochs=3),
    lesson_questions=200,
    frozen_questions=50,
)


def main(arguments: list[str] | None = None) -> None:
    """Run what is not done yet; write the report."""
    options = parse(arguments)
    keep_large_blocks()
    console = Console(stderr=True)
    periods = toy_periods() if options.toy else read(options.sessions)
    published = [] if options.toy else read_published(options.sessions)
    updates = _within("--updates", options.updates or len(periods) - 1, range(1, len(periods)))
    config = TOY if options.toy else RunConfig()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    wanted = [_within("--retrain-updates", update, range(1, updates + 1)) for update in options.retrain_updates]
    with tempfile.TemporaryDirectory(prefix="alluvium-ader-") as temporary:
        folder = options.state or Path(temporary)
        claim(folder, periods, config)

        def say(line: str) -> None:
            console.print(line, highlight=False, soft_wrap=True)

        def run(seed: int) -> list[dict[str, Any]]:
            own = Run(periods, config, seed=seed, folder=folder / f"seed-{seed}", device=device, say=say)
            return own.updates(updates)

        seeds = {0: run(0)}
        retrained = full_retraining(
            periods, wanted, config, seed=0, folder=folder / "full-retraining", device=device, say=say
        )
        seeds |= {seed: run(seed) for seed in range(1, options.seeds)}
        report = build(seeds, retrained, published, settings=config.described())
        report |= {"machine": machine(device), "data": "toy" if options.toy else options.sessions.name}
        if options.ablate:
            report["ablation"] = ablate(periods, config, updates=min(updates, 4), folder=folder, device=device, say=say)
    _write(options, report)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="alluvium bench ader", description=__doc__)
    parser.add_argument("--sessions", type=Path, default=DIGINETICA, help="Parquet: period, session_id, item_id")
    parser.add_argument("--updates", type=int, help="only the first so many")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, seeded 0, 1, ...")
    parser.add_argument("--retrain-updates", type=_numbers, default=[], help="full retraining on these, e.g. 1,6,11,16")
    parser.add_argument("--ablate", action="store_true", help="also leave out each part, on the first four updates")
    parser.add_argument("--state", type=Path, help="folder of finished updates: a stopped run goes on where it was")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables")
    parser.add_argument("--plot", type=Path, help="write the curves as PNG; needs the extra `plots`")
    parser.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument("--toy", action="store_true", help="a small made-up shop: does it still run?")
    options = parser.parse_args(arguments)
    _within("--seeds", options.seeds, range(1, 101))
    return options


def _numbers(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",")})


def _within(option: str, value: int, allowed: range) -> int:
    if value not in allowed:
        raise OptionError(option=option, value=value, expected=f"a number from {allowed[0]} to {allowed[-1]}")
    return value


def _write(options: argparse.Namespace, report: dict[str, Any]) -> None:
    page = markdown(report)
    print(page)
    for path in (options.report, options.markdown, options.plot):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(page, encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


def machine(device: torch.device) -> dict[str, Any]:
    """Where this was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": device.type, "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "platform": platform.platform(), "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


if __name__ == "__main__":
    main()
