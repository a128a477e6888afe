"""Shop recommendation: markets that open late start from what another market's model left in the knowledge store.

The United Kingdom's purchases before July 2011 teach one model. What it learned goes into the knowledge store, and the
model is forgotten. Then three other markets open. Each learns from its first purchases as they come, from scratch or
from what a quick trial chose from the store, and ranks the whole catalogue for purchases that come later.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.knowledge_parts.common import FULL, TEXT_WIDTH, TOY, two_stores
from benchmarks.knowledge_parts.log import HOME, OPENING_MS, Floats, Log, online_retail, text_vectors, toy_world
from benchmarks.knowledge_parts.markets import ENCODER, Stores, markets_of, run_market
from benchmarks.knowledge_parts.rows import Setting, round_of
from benchmarks.knowledge_parts.teaching import deposit_shuffled, teach
from benchmarks.knowledge_parts.vectors import narrowed
from examples.common import canvas, leave, options_of, show_table, spread
from learners.items.encoder import HashEncoder, open_encoder
from learners.rounds.material import RoundInput

MARKETS = ("Germany", "Southern Europe", "Belgium")
TAUGHT = 40_000  # newest purchases of the home market that teach: all would take longer than an example may
OPENING = 1_000  # first purchases of each market that are looked at; the newest 30 % of them judge
WAYS = {"scratch": "from scratch", "reuse": "from the store", "wrong": "store with a shuffled donor"}

Curve = dict[str, list[list[float]]]  # way -> [points][seeds], and "events" -> [points][1]


def main(arguments: list[str] | None = None) -> None:
    """Teach the home market, open the others, print and draw how fast they learn."""
    options = options_of("shop", __doc__, arguments, seeds=2)
    setting, log, vectors, names = world(options)
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder, two_stores(Path(folder)) as (right, wrong):
        teach(right, home_round(log, vectors, setting), Path(folder) / "teacher", task="uk", encoder=ENCODER)
        deposit_shuffled(right, wrong)
        print(f"the {HOME} left {', '.join(entry.kind for entry in right.entries())} in the store")
        markets = [market.first(OPENING) for market in markets_of(log) if market.name in names]
        found = {
            market.name: curve_of(
                [
                    run_market(market, Stores(right=right, wrong=wrong), vectors=vectors, setting=setting, seed=seed)
                    for seed in options.seeds
                ]
            )
            for market in markets
        }
    report(found)
    leave("shop", draw(found), found, options.out)


def world(options: argparse.Namespace) -> tuple[Setting, Log, Floats, Sequence[str]]:
    """Return the models' shape, the log, its items' text vectors and the markets' names."""
    if options.toy:
        log = toy_world({"Germany": 24})
        return TOY, log, text_vectors(log, HashEncoder(width=TOY.model.text_width)), ("Germany",)
    log = online_retail(options.data_dir)
    return FULL, log, narrowed(text_vectors(log, open_encoder("minilm")), TEXT_WIDTH), MARKETS


def home_round(log: Log, vectors: Floats, setting: Setting) -> RoundInput:
    """Return what the home market teaches with: its newest purchases before the others open."""
    home = log.of([HOME]).between(end_ms=OPENING_MS)
    home = home.where(np.arange(len(home)) >= len(home) - TAUGHT)
    cut = round(0.95 * len(home))
    return round_of(
        home,
        learn=(0, cut),
        judge=(cut, len(home)),
        vectors=vectors,
        setting=setting,
        training=setting.donor_training,
        seed=0,
    )


def curve_of(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """Return NDCG@10 of every way after so many purchases, a value each seed; the first point is before any."""
    points = list(zip(*seeds, strict=True))
    curve = {"events": [[point[0]["events"]] for point in points]}
    for way in WAYS:
        curve[way] = [[row[way] for row in point] if way in point[0] else [] for point in points]
    curve["refused"] = [[float(not row["wrong_chosen"]) for row in point] for point in points[1:]]
    return curve


def report(found: Mapping[str, Curve]) -> None:
    """Print a line each market and number of purchases."""
    rows = []
    for market, curve in found.items():
        for place, ((events,), *values) in enumerate(zip(curve["events"], *(curve[way] for way in WAYS), strict=True)):
            refused = curve["refused"][place - 1] if place else []
            trial = f"{sum(refused):.0f} of {len(refused)}" if refused else "-"
            rows.append([market, str(events), *(spread(value) if value else "-" for value in values), trial])
    show_table(("market", "purchases", *WAYS.values(), "shuffled donor refused"), rows)


def draw(found: Mapping[str, Curve]) -> Figure:
    """NDCG@10 over purchases learned, a plot each market."""
    figure, plots = canvas(len(found), width=9, height=3.4)
    for plot, (market, curve) in zip(plots, found.items(), strict=True):
        for way, style in {"reuse": "o-", "scratch": "s-", "wrong": "x:"}.items():
            points = [(events, values) for (events,), values in zip(curve["events"], curve[way], strict=True) if values]
            means = [float(np.mean(values)) for _, values in points]
            plot.plot([events for events, _ in points], means, style, label=WAYS[way])
            plot.fill_between(
                [events for events, _ in points],
                [min(values) for _, values in points],
                [max(values) for _, values in points],
                alpha=0.2,
            )
        plot.set(title=market, xlabel="purchases learned", ylim=(0, None))
    plots[0].set_ylabel("NDCG@10, later purchases")
    plots[0].legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
