"""`alluvium bench share`: four shops, a model each, made into one.

The shops are cut out of Online Retail: nobody buys in two of them; half of what each sells is sold by all, the other
half by it alone. Each trains a seed model from the same first weights on the oldest 80 % of its events; the next 10 %
choose weights, the newest 10 % judge, over the shop's whole catalogue. Against every way of making one model of four
stand the best single seed model at each shop, and one model trained on all shops' data. Then each shop's customers give
way to another shop's, and weights that follow feedback are held against weights that stay. docs/knowledge.md says more.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from rich.console import Console

from benchmarks.ingest import machine
from benchmarks.knowledge_parts.common import FULL, TOY, check, once, parser_of, vectors_of, write
from benchmarks.knowledge_parts.ensembles import through_change
from benchmarks.knowledge_parts.fusions import first_weights, low_rank, seed_model
from benchmarks.knowledge_parts.log import Floats, online_retail, toy_world
from benchmarks.knowledge_parts.rows import Setting, round_of
from benchmarks.knowledge_parts.shops import Shop, shops_of, together
from benchmarks.knowledge_parts.tables import console_table, markdown_table, spread, yes
from learners.knowledge.opinions import Opinions, chosen_weights, gains
from learners.knowledge.sharing import Member, averaged_again, composition, distilled, fisher, soup, uniform
from learners.releases.release import LoadedRelease, load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import judge_releases, run_round

SHOPS = 4
BAR = 0.95
AFTERWARDS = {"epochs": 4, "learning_rate": 1e-3}  # what training after fusion costs each shop
AGAIN = 2
ALL_DATA = (
    (1.0, 1.0),
    (1 / 3, 1.0),
    (1.0, 0.25),
)  # shares of a shop's epochs and rate that the model of all data tries
BEST, ALL = "best single seed model", "one model of all data"
HEADER = ("method", *(f"shop {number}" for number in range(1, SHOPS + 1)), "mean", "of all data", "above best single")


def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet, print the tables, write the JSON."""
    parser = parser_of("share", __doc__)
    parser.add_argument("--most-events", type=int, help="only the newest so many events of each shop")
    options = parser.parse_args(arguments)
    check(options)
    torch.set_num_threads(1)
    console = Console(width=160)
    setting = TOY if options.toy else FULL
    log = toy_world({}, home_people=120) if options.toy else online_retail(options.data_dir)
    vectors = vectors_of(log, options)
    state = options.state / f"share-{_digest(len(log), setting, options)}"
    facts = {
        "encoder": "hash" if options.toy else options.encoder,
        "most_events": options.most_events,
        "setting": asdict(setting),
        "machine": machine(),
    }
    runs = []
    for seed in range(options.seeds):

        def make(seed: int = seed) -> dict[str, Any]:
            shops = shops_of(log, count=SHOPS, seed=seed, most_events=options.most_events)
            return run_shops(shops, vectors=vectors, setting=setting, seed=seed)

        runs.append(once(state / f"{seed}.json", make))
        means = {name: round(float(np.mean(values)), 4) for name, values in runs[-1]["methods"].items()}
        console.print(f"seed {seed}: {means}", soft_wrap=True)
        report = figures(runs) | facts
        write(options, report, markdown(report))
    console.print(console_table("bench share: NDCG@10", HEADER, table_rows(report)))
    console.print(console_table("weights after a shop changes: NDCG@10", CHANGE_HEADER, change_rows(report)))
    for line in said(report):
        console.print(line, soft_wrap=True)


def run_shops(shops: Sequence[Shop], *, vectors: Floats, setting: Setting, seed: int) -> dict[str, Any]:
    """Train the seed models, fuse them in every way, and judge each at every shop.

    Returns:
        `methods`: name -> NDCG@10 at each shop; `singles`: of each seed model at each shop; `soup`: who is in it;
        `weights`: of the ensemble at each shop; `changes`: of each shop that changes, see `through_change`.
    """

    def inputs(part: str) -> list[RoundInput]:
        return [
            shop.round_input(part, vectors=vectors, setting=setting, training=setting.training, seed=seed)
            for shop in shops
        ]

    choose, judge = inputs("choose"), inputs("judge")
    with tempfile.TemporaryDirectory(prefix="alluvium-") as name:
        folder = Path(name)
        seeds = [seed_model(one, folder / f"seed-{number}") for number, one in enumerate(judge)]
        singles = [judged(one.release, judge) for one in seeds]
        asked = [_opinions(seeds, one, one) for one in choose]
        weights = [chosen_weights(one) for one in asked]
        values = [one.values for one in weights]

        def score(release: LoadedRelease) -> float:
            return float(np.mean(judged(release, choose)))

        soup_model, chosen = soup(seeds, judge[0], score)
        all_data, trained = _all_data(shops, judge[0], folder / "all", setting=setting, seed=seed, score=score)
        deltas, shares = composition(seeds, first_weights(judge[0]), judge[0], score)
        adapters, adapter_shares = low_rank(seeds, judge, folder, score, **_afterwards())
        methods = {
            BEST: np.max(singles, axis=0).tolist(),
            ALL: judged(all_data, judge),
            "uniform average": judged(uniform(seeds, judge[0]), judge),
            "greedy soup": judged(soup_model, judge),
            "Fisher-weighted average": judged(fisher(seeds, judge[0]), judge),
            "composition of all changes": judged(deltas, judge),
            "composition of LoRA adapters": judged(adapters, judge),
            "average, trained and averaged again": judged(
                averaged_again(uniform(seeds, judge[0]), judge, folder, rounds=AGAIN, **_afterwards()), judge
            ),
            "weighted distillation": judged(
                distilled(uniform(seeds, judge[0]), seeds, judge, values, **_afterwards()), judge
            ),
            "logits ensemble, equal weights": [_asked_together(seeds, one, [1.0] * len(seeds)) for one in judge],
            "logits ensemble, weights by feedback": [
                _asked_together(seeds, one, own) for one, own in zip(judge, values, strict=True)
            ],
        }
        changes = [
            through_change(
                weights[number],
                _opinions(seeds, judge[number], judge[number], judge[(number + 1) % len(shops)]),
                _opinions(seeds, judge[(number + 1) % len(shops)], judge[number], judge[(number + 1) % len(shops)]),
            )
            for number in range(len(shops))
        ]
    return {
        "methods": methods,
        "singles": singles,
        "soup": [int(one) for one in chosen],
        "weights": values,
        "composition": {"changes": shares, "adapters": adapter_shares},
        "all_data": trained,
        "changes": changes,
        "shops": [
            {"people": shop.log.people(), "events": len(shop.log), "items": int(shop.sells.sum())} for shop in shops
        ],
    }


def judged(release: LoadedRelease, inputs: Sequence[RoundInput]) -> list[float]:
    """Return a model's NDCG@10 at each shop."""
    return [judge_releases(release, None, one).evidence["candidate"]["newest"]["ndcg_10"] for one in inputs]


def _afterwards() -> dict[str, Any]:
    return dict(AFTERWARDS)


def _all_data(
    shops: Sequence[Shop],
    like: RoundInput,
    folder: Path,
    *,
    setting: Setting,
    seed: int,
    score: Callable[[LoadedRelease], float],
) -> tuple[LoadedRelease, dict[str, float]]:
    """Train one model on what all shops learn from, as far and as fast as their validation likes best."""
    log, found = together(shops), []
    for share, rate in ALL_DATA:
        epochs = max(1, round(share * setting.training.first_epochs))
        learning_rate = rate * setting.training.first_learning_rate
        round_input = round_of(
            log,
            learn=(0, len(log)),
            judge=(len(log) - 1, len(log)),
            vectors=like.text_vectors,
            setting=setting,
            training=replace(
                setting.training, strategy="naive", first_epochs=epochs, first_learning_rate=learning_rate
            ),
            seed=seed,
            active=np.any([shop.sells for shop in shops], axis=0),
        )
        out = folder / f"{epochs}-{rate}"
        out.mkdir(parents=True)
        candidate = run_round(round_input, out).candidate
        assert candidate is not None, "shops without purchases teach nothing"
        release = load_release(candidate)
        said = {"epochs": epochs, "learning_rate": learning_rate, "validation": score(release)}
        found.append((release, said))
    return max(found, key=lambda one: one[1]["validation"])


def _opinions(seeds: Sequence[Member], events: RoundInput, *sellers: RoundInput) -> Opinions:
    """Ask the seed models about the events of one shop, over what some shops sell."""
    sells = torch.from_numpy(np.any([one.active for one in sellers], axis=0))
    return Opinions.of(seeds, events.newest_histories, events.newest_targets, sells)


def _asked_together(seeds: Sequence[Member], events: RoundInput, weights: Sequence[float]) -> float:
    opinions = _opinions(seeds, events, events)
    return float(np.mean(gains(opinions.mixed(weights), opinions.true)))


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return every method at every shop, means over seeds, and whether the bars are met."""
    names = list(runs[0]["methods"])
    at_shops = {name: np.array([run["methods"][name] for run in runs]) for name in names}  # [seeds, shops]
    best, all_data = at_shops[BEST].mean(axis=0), at_shops[ALL].mean()
    methods = {
        name: {
            "shops": values.T.tolist(),
            "means": values.mean(axis=1).tolist(),
            "of_all_data": float(values.mean() / all_data),
            "above_best_single": bool((values.mean(axis=0) > best).all()),
        }
        for name, values in at_shops.items()
    }
    one_model = [name for name in names if name not in {BEST, ALL} and "ensemble" not in name]
    changes = {
        kind: {when: [float(np.mean([one[kind][when] for one in run["changes"]])) for run in runs] for when in _WHEN}
        for kind in ("fixed", "adaptive")
    }
    met = [name for name in one_model if methods[name]["above_best_single"] and methods[name]["of_all_data"] >= BAR]
    return {
        "methods": methods,
        "changes": changes,
        "runs": list(runs),
        "met_by": met,
        "claims": {
            f"a fused model is above the best single seed model at every shop, and at >= {BAR:.0%} of one trained on "
            f"all data ({', '.join(met) or 'none'})": bool(met),
            "adaptive weights beat fixed ones after a shop changes": bool(
                np.mean(changes["adaptive"]["after"]) > np.mean(changes["fixed"]["after"])
            ),
        },
    }


_WHEN = ("before", "after")
CHANGE_HEADER = ("weights", *_WHEN)


def table_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the main table's cells, a method a row."""
    return [
        [
            name,
            *(spread(values) for values in row["shops"]),
            spread(row["means"]),
            f"{row['of_all_data']:.1%}",
            "" if name in {BEST, ALL} else yes(row["above_best_single"]),
        ]
        for name, row in report["methods"].items()
    ]


def change_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of fixed and adaptive weights."""
    return [[kind, *(spread(row[when]) for when in _WHEN)] for kind, row in report["changes"].items()]


def said(report: Mapping[str, Any]) -> list[str]:
    """Return what holds and what does not, a line each."""
    return [f"{claim}: {'holds' if holds else 'does NOT hold'}" for claim, holds in report["claims"].items()]


def markdown(report: Mapping[str, Any]) -> str:
    """Return both tables, and what holds."""
    tables = (markdown_table(HEADER, table_rows(report)), markdown_table(CHANGE_HEADER, change_rows(report)))
    return "\n\n".join((*tables, "\n".join(f"- {line}" for line in said(report))))


def _digest(events: int, setting: Setting, options: Any) -> str:
    """Tell runs of other data or settings apart."""
    made_with = [events, msgspec.to_builtins(setting), options.encoder, options.most_events]
    return hashlib.sha256(msgspec.json.encode(made_with)).hexdigest()[:8]


if __name__ == "__main__":
    main()
