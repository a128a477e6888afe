"""`alluvium bench prequential`: every contender ranks each interaction before anything learns from it.

Alluvium's default strategy against full retraining from scratch every 14 days of event time, naive fine-tuning,
popularity, item-kNN, river's BiasedMF and FM, `implicit` and RecBole's SASRec, on Online Retail and MovieLens 100k,
over the whole catalogue, with bootstrap intervals over people. What is finished is kept, so that a stopped run goes on
where it was. docs/prequential.md says more.
"""

import argparse
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.prequential_parts.contenders import CONTENDERS, Bench
from benchmarks.prequential_parts.datasets import DATASETS
from benchmarks.prequential_parts.peers import Peers, PeerUnavailableError
from benchmarks.prequential_parts.plot import plot
from benchmarks.prequential_parts.protocol import Outcome
from benchmarks.prequential_parts.records import Records, digest
from benchmarks.prequential_parts.report import console_table, figures, markdown
from infra.composition import TEXT_VECTORS, learner_config
from infra.settings import Settings
from learners.items.catalog import item_text
from learners.items.encoder import Encoder, HashEncoder, open_encoder
from learners.items.layout import Layout
from learners.learner_config import LearnerConfig
from learners.model import ModelConfig

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STATE = Path("alluvium-data") / "bench-prequential"
BOTH = ("online_retail", "ml_100k")
DRAWS = 1_000
_PROGRESS_EVERY = 20_000


def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet, print the tables, write the JSON."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # CPU seconds are compared: no contender may hide some in other threads
    console, records = Console(), Records(options.state)
    reports: dict[str, Any] = {}
    for data in ("toy",) if options.toy else BOTH if options.data == "both" else (options.data,):
        bench = _bench(data, options)
        outcomes, failed = _run(bench, options, records, console)
        reports[data] = figures(bench.dataset.log, outcomes, draws=100 if options.toy else DRAWS) | {"failed": failed}
        console.print(console_table(data, reports[data]))
        for claim, holds in reports[data].get("claims", {}).items():
            console.print(f"{data}: {claim}: {'holds' if holds else 'does NOT hold'}")
    report = {
        "data": reports,
        "limit": options.limit,
        "seeds": options.seeds,
        "first_seed": options.first_seed,
        "machine": machine(),
    }
    for target, text in ((options.report, json.dumps(report, indent=1)), (options.markdown, markdown(reports))):
        if target is not None:
            target.write_text(text + "\n", encoding="utf-8")
    if options.plot is not None:
        plot(reports, options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alluvium bench prequential", description=__doc__)
    parser.add_argument("--data", choices=[*BOTH, "both"], default="both", help="which log; default: both")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where the logs lie")
    parser.add_argument("--limit", type=int, help="only the first so many events")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contender that draws anything at random")
    parser.add_argument("--first-seed", type=int, default=0, help="of those runs")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="only these; may be repeated")
    parser.add_argument("--skip", action="append", choices=list(CONTENDERS), default=[], help="all but these")
    parser.add_argument("--peers-venv", type=Path, help="virtual environment of the peers; default: made in the cache")
    parser.add_argument("--state", type=Path, default=STATE, help="where finished contenders are kept")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    parser.add_argument("--plot", type=Path, help="draw quality over time and against cost (PNG)")
    parser.add_argument("--toy", action="store_true", help="a small simulated log, no peers: does it still run?")
    return parser


def _bench(data: str, options: argparse.Namespace) -> Bench:
    dataset = DATASETS[data](options.data_dir, options.limit)
    encoder: Encoder
    if options.toy:
        encoder, config = HashEncoder(width=16), toy_config()
    else:
        options.state.mkdir(parents=True, exist_ok=True)
        settings = Settings()
        encoder = open_encoder(settings.model.text_encoder, cache=options.state.absolute() / TEXT_VECTORS)
        encoder.encode([_text(item) for item in dataset.items])  # ahead of the clock: all of ours read the same vectors
        config = learner_config(settings, Layout(text=encoder.width))
    return Bench(dataset=dataset, encoder=encoder, config=config, peers=Peers(options.peers_venv), state=options.state)


def toy_config() -> LearnerConfig:
    """A learner that is done in seconds."""
    base = LearnerConfig(model=ModelConfig(width=16, layers=1, heads=1, history_length=20, text_width=16))
    return replace(
        base,
        trigger=replace(base.trigger, interactions=200),
        training=replace(base.training, epochs=1, first_epochs=2),
        newest_window=50,
        frozen_cases=50,
    )


def _run(
    bench: Bench, options: argparse.Namespace, records: Records, console: Console
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """Run every contender that is wanted; a peer that cannot run is reported, not hidden."""
    log = bench.dataset.log
    outcomes: dict[str, list[Outcome]] = {}
    failed: dict[str, str] = {}
    wanted = options.contender or [name for name, entry in CONTENDERS.items() if not (options.toy and entry.peer)]
    for name in (name for name in wanted if name not in options.skip):
        entry = CONTENDERS[name]
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        for seed in seeds if entry.random else [0]:
            key = f"{log.name}-{len(log)}-{name}-{seed}-{digest(entry.settings(bench))}"
            said = [0]

            def progress(done: int, name: str = name, said: list[int] = said) -> None:
                if done >= said[0] + _PROGRESS_EVERY:
                    said[0] = done
                    console.print(f"{log.name} {name}: {done:,} of {len(log):,}")

            try:
                outcome, kept = records.once(key, lambda: entry.make(bench, seed, progress))  # noqa: B023 - called here
            except PeerUnavailableError as error:
                failed[name] = str(error)
                console.print(f"{log.name} {name}: not run: {error}", markup=False)
                break
            outcomes.setdefault(name, []).append(outcome)
            hit_rate = float(((outcome.ranks["served"] >= 1) & (outcome.ranks["served"] <= 10)).mean())
            console.print(
                f"{log.name} {name}, seed {seed}: hit rate@10 {hit_rate:.4f}, {outcome.train_s:,.0f} s of training"
                f"{', kept from before' if kept else ''}"
            )
    return outcomes, failed


def _text(item: dict[str, Any]) -> str:
    names = ("title", "description", "category", "brand", "attributes")
    return item_text(**{name: item[name] for name in names if item.get(name)})


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
