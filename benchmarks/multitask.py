"""`alluvium bench multitask`: heads on one trunk, on simulated shops whose true chances are known.

Every shop sells, shows and sees visits of its own. The first visits are trained on, the next calibrate, the last judge.
Conversion (what is bought of what is clicked) is judged over ALL impressions, as ranking needs it: whether the shown
item would have been bought had it been clicked, drawn from the true chance. Intervals are bootstrapped over shops,
paired.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ingest import machine
from infra.demo.offline import ShopLog, Truth, simulate
from learners.items.encoder import HashEncoder
from learners.model import ModelConfig, SharedModel
from learners.multitask import (
    Chances,
    MultiTaskConfig,
    MultiTaskModel,
    MultiTaskTrainer,
    Predictor,
    TaskWeights,
    Visits,
    expected_calibration_error,
)
from learners.multitask.quality import auc, classification

Floats = npt.NDArray[np.floating]

TRUNK = ModelConfig(
    width=32, layers=1, heads=2, dropout=0.1, input_dropout=0.1, history_length=30, text_width=64, spare_rows=0
)
ALONE, SHARED, ESMM = "clicks alone", "clicks alone, shared trunk", "ESMM"
# Chosen on a shop that is not reported (seed 100). A mean over all impressions is small where clicks are rare: the
# weight of what follows a click makes up for it, so that it counts about as much as a mean over clicks.
RATE, _ONLY = 3e-3, TaskWeights(click=0, cart=0, purchase=1, buyer=0, next_item=0)
_ALL = TaskWeights(cart=10, purchase=10)
VARIANTS = {
    ALONE: MultiTaskConfig(conversion="clicked", weights=_ONLY, learning_rate=RATE),
    SHARED: MultiTaskConfig(conversion="clicked", learning_rate=RATE),
    ESMM: MultiTaskConfig(weights=_ALL, learning_rate=RATE),
    "ESMM + MMoE": MultiTaskConfig(structure="mmoe", weights=_ALL, learning_rate=RATE),
    "ESMM + PLE": MultiTaskConfig(structure="ple", weights=_ALL, learning_rate=RATE),
}
BAR_ECE, RESAMPLES = 0.02, 10_000


@dataclass(frozen=True, kw_only=True)
class Size:
    """Visits of a shop, ten impressions each, and its crowd."""

    train: int
    calibrate: int
    judge: int
    visitors: int
    nouns: int
    epochs: int


FULL = Size(train=6_000, calibrate=4_000, judge=8_000, visitors=600, nouns=10, epochs=5)
TOY = Size(train=300, calibrate=200, judge=300, visitors=60, nouns=2, epochs=1)


def main(arguments: list[str] | None = None) -> None:
    """Run every variant on every shop, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(prog="alluvium bench multitask", description=__doc__)
    parser.add_argument("--shops", type=int, default=5, help="seeds 0, 1, ...: one shop each")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="two tiny shops: does it still run?")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    size, shops, console = (TOY, 2, Console()) if options.toy else (FULL, options.shops, Console())
    found = []
    for seed in range(shops):
        found.append(run_shop(size, seed=seed))
        conversion = {name: round(row["cvr_auc_all"], 4) for name, row in found[-1]["variants"].items()}
        console.print(f"shop {seed}: {conversion}", soft_wrap=True)
        report = summary(found) | {"shops": found, "size": asdict(size), "trunk": asdict(TRUNK), "machine": machine()}
        report["heads"] = {name: asdict(config) for name, config in VARIANTS.items()}
        if options.report:  # after every shop, so that a run that is cut off has not run for nothing
            options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for page in tables(report):
        console.print(page)
    for name, figure in report["cvr_auc_gain"].items():
        console.print(f"{name} over {ALONE}: {figure['mean']:+.4f}, 95 % {figure['low']:+.4f} to {figure['high']:+.4f}")


def run_shop(size: Size, *, seed: int) -> dict[str, Any]:
    """Train every variant on one shop; judge all on the same later visits."""
    log = simulate(visits=size.train + size.calibrate + size.judge, seed=seed, visitors=size.visitors, nouns=size.nouns)
    held_out, _ = log.part(size.train, size.train + size.calibrate)
    judged, truth = log.part(size.train + size.calibrate, len(log.visits))
    would_buy = np.random.default_rng([seed, 6]).random(truth.purchase.shape) < truth.purchase
    variants = {}
    for name, config in VARIANTS.items():
        began = time.process_time()
        predictor = train(log, replace(config, epochs=size.epochs), visits=size.train, seed=seed)
        train_cpu_s = time.process_time() - began
        raw = predictor.chances(judged)
        predictor.calibrate(held_out)
        variants[name] = judge(raw, predictor.chances(judged), judged, truth, would_buy) | {"train_cpu_s": train_cpu_s}
    impressions = int((judged.shown > 0).sum())
    return {
        "seed": seed,
        "variants": variants,
        "truth": {
            "cvr_auc_all": auc(truth.purchase, would_buy),
            "click_auc": auc(truth.click, judged.clicked.numpy()),
            "buyer_auc": auc(truth.buyer, judged.buyer.numpy()),
        },
        "rates": {
            "impressions": impressions,
            "click": float(judged.clicked.sum()) / impressions,
            "purchase": float(judged.bought.sum()) / impressions,
            "buyer": float(judged.buyer.float().mean()),
        },
    }


def train(log: ShopLog, config: MultiTaskConfig, *, visits: int, seed: int) -> Predictor:
    """Train trunk and heads on the shop's first visits, from fresh weights that are the same for every variant."""
    texts = [" ".join((item.title, item.description or "", *item.category)) for item in log.catalogue.items]
    described = np.vstack([np.zeros((1, TRUNK.text_width), np.float32), HashEncoder(width=64).encode(texts)])
    text_vectors = torch.from_numpy(described)
    torch.manual_seed(seed)
    trunk = SharedModel(TRUNK, capacity=len(described))
    trunk.admit(1, text_vectors[1:])
    model = MultiTaskModel(trunk, config)
    active = torch.from_numpy(np.concatenate([[False], ~log.catalogue.is_new]))
    MultiTaskTrainer(model, text_vectors=text_vectors, active=active, seed=seed).train(log.part(0, visits)[0])
    return Predictor(model=model, text_vectors=text_vectors, active=active)


def judge(
    raw: Chances, calibrated: Chances, visits: Visits, truth: Truth, would_buy: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return AUC of every head, and its ECE before and after calibration, against the true chances and outcomes."""
    clicked, everywhere = visits.clicked.numpy(), np.ones(visits.clicked.shape, dtype=bool)
    heads = {
        "click": (everywhere, truth.click, clicked),
        "cart": (clicked, truth.cart, visits.carted.numpy()),
        "purchase": (clicked, truth.purchase, visits.bought.numpy()),
        "click_and_purchase": (everywhere, truth.click * truth.purchase, visits.bought.numpy()),
        "buyer": (np.ones(len(visits), dtype=bool), truth.buyer, visits.buyer.numpy()),
    }
    ece = {}
    for head, (judged, true, outcomes) in heads.items():
        before, after = getattr(raw, head)[judged], getattr(calibrated, head)[judged]
        chances, so = true[judged], outcomes[judged]
        ece[head] = {
            "judged": len(so),
            "events": int(so.sum()),
            "raw_vs_truth": expected_calibration_error(before, chances),
            "vs_truth": expected_calibration_error(after, chances),
            "raw_vs_outcomes": expected_calibration_error(before, so),
            "vs_outcomes": expected_calibration_error(after, so),
            "truth_vs_outcomes": expected_calibration_error(chances, so),
        }
    return {
        "cvr_auc_all": auc(raw.purchase, would_buy),
        "cvr_auc_clicked": auc(raw.purchase[clicked], visits.bought.numpy()[clicked]),
        "ctcvr_auc": auc(raw.click_and_purchase, visits.bought.numpy()),
        "click_auc": auc(raw.click, clicked),
        "buyer_auc": auc(raw.buyer, visits.buyer.numpy()),
        "buy_or_not": classification(calibrated.will_buy, visits.buyer.numpy()),
        "purchase_everywhere_vs_truth": expected_calibration_error(calibrated.purchase, truth.purchase),
        "ece": ece,
    }


def summary(shops: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over shops, and what each variant gains in conversion AUC over a head trained on clicks alone."""
    figures = ("cvr_auc_all", "cvr_auc_clicked", "ctcvr_auc", "click_auc", "buyer_auc", "purchase_everywhere_vs_truth")

    def column(variant: str, figure: str) -> Floats:
        return np.array([shop["variants"][variant][figure] for shop in shops])

    heads = shops[0]["variants"][ESMM]["ece"]
    return {
        "mean": {name: {figure: float(column(name, figure).mean()) for figure in figures} for name in VARIANTS},
        "truth": {name: float(np.mean([shop["truth"][name] for shop in shops])) for name in shops[0]["truth"]},
        "cvr_auc_gain": {
            name: interval(column(name, "cvr_auc_all") - column(ALONE, "cvr_auc_all"))
            for name in VARIANTS
            if name != ALONE
        },
        "cvr_auc_gain_of_esmm_over_shared_trunk": interval(column(ESMM, "cvr_auc_all") - column(SHARED, "cvr_auc_all")),
        "ece": {
            head: {
                figure: float(np.mean([shop["variants"][ESMM]["ece"][head][figure] for shop in shops]))
                for figure in heads[head]
            }
            for head in heads
        },
        "worst_ece_vs_truth": max(shop["variants"][ESMM]["ece"][head]["vs_truth"] for shop in shops for head in heads),
        "worst_ece_vs_outcomes": max(
            shop["variants"][ESMM]["ece"][head]["vs_outcomes"] for shop in shops for head in heads
        ),
        "buy_or_not": {
            name: float(np.mean([shop["variants"][ESMM]["buy_or_not"][name] for shop in shops]))
            for name in ("accuracy", "precision", "recall", "f1")
        },
    }


def interval(differences: Floats) -> dict[str, float]:
    """Return the mean of paired differences with its 95 % bootstrap interval over shops.

    >>> interval(np.array([1.0, 1.0]))
    {'mean': 1.0, 'low': 1.0, 'high': 1.0}
    """
    rng = np.random.default_rng(0)
    drawn = differences[rng.integers(len(differences), size=(RESAMPLES, len(differences)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"mean": float(differences.mean()), "low": float(low), "high": float(high)}


def tables(report: dict[str, Any]) -> list[Table]:
    """AUC by variant, ECE by head."""
    quality = Table(title=f"bench multitask: AUC, means over {len(report['shops'])} shops")
    for name in ("variant", "CVR, all impressions", "CVR, clicked", "CTCVR", "click", "buyer"):
        quality.add_column(name, justify="left" if name == "variant" else "right")
    for name, row in report["mean"].items():
        cells = ("cvr_auc_all", "cvr_auc_clicked", "ctcvr_auc", "click_auc", "buyer_auc")
        untrained = {"ctcvr_auc", "click_auc", "buyer_auc"} if name == ALONE else set[str]()
        quality.add_row(name, *("-" if cell in untrained else f"{row[cell]:.4f}" for cell in cells))
    true = report["truth"]
    quality.add_row(
        "the true chances", f"{true['cvr_auc_all']:.4f}", "", "", f"{true['click_auc']:.4f}", f"{true['buyer_auc']:.4f}"
    )
    errors = Table(title=f"ECE of ESMM after beta calibration (before); the bar is {BAR_ECE}")
    for name in ("head", "judged", "events", "against true chances", "against outcomes", "the truth against outcomes"):
        errors.add_column(name, justify="left" if name == "head" else "right")
    for head, row in report["ece"].items():
        errors.add_row(
            head,
            f"{row['judged']:,.0f}",
            f"{row['events']:,.0f}",
            f"{row['vs_truth']:.4f} ({row['raw_vs_truth']:.4f})",
            f"{row['vs_outcomes']:.4f} ({row['raw_vs_outcomes']:.4f})",
            f"{row['truth_vs_outcomes']:.4f}",
        )
    return [quality, errors]


if __name__ == "__main__":
    main()
