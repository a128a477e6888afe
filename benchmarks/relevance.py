"""`alluvium bench relevance`: how well a title answers a query, on Home Depot's pairs, split by query.

BM25, the frozen encoder, a head on the frozen encoder, full fine-tuning, LoRA, and LoRA that starts from the shop's
adapter, all on the same pairs, passes and batches; the last three with a tenth of the pairs, too. The shop's adapter is
learned from titles alone, without labels: some words of a title have to find it among others. No test query is learned
from anywhere, and no title of a test pair by that adapter. docs/tasks.md says more.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from benchmarks.ingest import machine
from benchmarks.knowledge_parts.common import DATA, once, write
from benchmarks.knowledge_parts.tables import console_table, markdown_table, spread, yes
from benchmarks.task_parts import contest as ways
from benchmarks.task_parts.contest import Contest, Setting
from benchmarks.task_parts.home_depot import read_pairs, split_by_query, toy_pairs, whole_queries
from learners.tasks.backbones import StateCache

STATE = Path("alluvium-data") / "bench-relevance"
TEST_SHARE = 0.1
TOY = Setting(
    encoder="hash", pairs=400, epochs=4, test_pairs=160, titles=200, rates=(("lora", 1e-2), ("full", 1e-2)), batch=16
)
HEADER = ("method", "NDCG@10", "RMSE", "trained parameters", "of full", "CPU s")
BM25, FROZEN, HEAD = "BM25", "frozen encoder", "frozen encoder, trained head"
FULL, LORA, SHOP = "full fine-tune", "LoRA", "LoRA from the shop's adapter"
FEW = ", a tenth of the pairs"
WAYS: Mapping[str, Callable[[Contest], dict[str, Any]]] = {
    BM25: ways.bm25,
    FROZEN: ways.frozen_similarity,
    HEAD: ways.trained("frozen"),
    LORA: ways.trained("lora"),
    FULL: ways.trained("full"),
}
METHODS = (*WAYS, SHOP, *(name + FEW for name in (HEAD, LORA, FULL, SHOP)))
MOST_APART, MOST_TRAINED = 0.01, 0.03  # LoRA's bars: quality within 1 % of full fine-tuning, with 3 % of its parameters


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, print the table, write the JSON."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(width=160)
    setting = (
        TOY
        if options.toy
        else replace(
            Setting(),
            encoder=options.encoder,
            interaction=options.interaction,
            pairs=options.pairs,
            epochs=options.epochs,
            test_pairs=options.test_pairs,
            titles=options.titles,
        )
    )
    pairs = toy_pairs(1200, seed=0) if options.toy else read_pairs(options.data_dir)
    state = options.state / f"relevance-{_digest(setting, len(pairs))}"
    cache = StateCache()
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        contest = contest_of(pairs, setting, seed=seed, cache=cache)
        for name, figures in run(contest, state / str(seed), console, options.method or METHODS):
            found.setdefault(name, []).append(figures)
            report = {
                "methods": {each: _by_name(rows) for each, rows in found.items()},
                "setting": asdict(setting),
                "seeds": options.seeds,
                "learn_pairs": len(contest.learn),
                "machine": machine(),
            }
            report["claims"] = claims(report["methods"])
            write(options, report, markdown(report))
    console.print(console_table("bench relevance", HEADER, table_rows(report["methods"])))
    for line in said(report["claims"]):
        console.print(line, soft_wrap=True)


def contest_of(pairs: Sequence[Any], setting: Setting, *, seed: int, cache: StateCache) -> Contest:
    """Return a seed's split: which queries judge, which are learned from."""
    split = split_by_query(pairs, test_share=TEST_SHARE, seed=seed)
    return Contest(
        setting=setting,
        learn=whole_queries(split.learn, setting.pairs, seed=seed),
        test=whole_queries(split.test, setting.test_pairs, seed=seed),
        titles=split.titles,
        seed=seed,
        cache=cache,
    )


def run(contest: Contest, state: Path, console: Console, methods: Sequence[str]) -> Any:
    """Yield each method's name and figures, as they are there."""
    for name in METHODS:
        if name in methods:
            plain = name.removesuffix(FEW)
            given = contest if name == plain else contest.few()
            way = partial(WAYS[plain], given) if plain != SHOP else partial(_from_the_shop, contest, given, state)
            yield name, _told(console, contest, name, once(state / _file(name), way))


def claims(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Return which bars are met, of those whose methods are there."""
    if not {LORA, FULL} <= methods.keys():
        return {}
    lora, full = methods[LORA], methods[FULL]
    ndcg = [float(np.mean(each["ndcg_10"])) for each in (lora, full)]
    errors = [float(np.mean(each["rmse"])) for each in (lora, full)]
    share = lora["trained_parameters"][0] / full["trained_parameters"][0]
    return {
        f"LoRA's NDCG@10 is within 1 % of full fine-tuning's ({ndcg[0] / ndcg[1] - 1:+.2%})": ndcg[0]
        >= (1 - MOST_APART) * ndcg[1],
        f"LoRA's RMSE is within 1 % of full fine-tuning's ({errors[0] / errors[1] - 1:+.2%})": errors[0]
        <= (1 + MOST_APART) * errors[1],
        f"LoRA trains at most 3 % of full fine-tuning's parameters ({share:.2%})": share <= MOST_TRAINED,
    }


def table_rows(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the table's cells, a method a row."""
    full = methods.get(FULL, {}).get("trained_parameters", [0])[0]
    rows = []
    for name, figures in methods.items():
        count = figures.get("trained_parameters", [0])[0]
        share = f"{count / full:.2%}" if count and full else ""
        spent = f"{np.mean(figures['cpu_s']):.0f}" if "cpu_s" in figures else ""
        cells = [name, spread(figures["ndcg_10"]), spread(figures["rmse"])]
        rows.append([*cells, f"{count:,}" if count else "", share, spent])
    return rows


def said(bars: Mapping[str, bool]) -> list[str]:
    """Return what holds and what does not, a line each."""
    return [f"{claim}: {yes(holds)}" for claim, holds in bars.items()]


def markdown(report: Mapping[str, Any]) -> str:
    """Return the table and the bars."""
    lines = "\n".join(f"- {line}" for line in said(report["claims"]))
    return f"{markdown_table(HEADER, table_rows(report['methods']))}\n\n{lines}"


def _from_the_shop(contest: Contest, given: Contest, state: Path) -> dict[str, Any]:
    """Learn the shop's adapter, if that has not been done, and start from it."""
    file, facts = state / "shop.safetensors", state / "shop.json"
    if not facts.exists():
        learned, figures = ways.shop_adapter(contest)
        state.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in learned.items()}, file)
        facts.write_text(json.dumps(figures), encoding="utf-8")
    return ways.from_the_shop(given, load_file(file)) | {"shop": json.loads(facts.read_text(encoding="utf-8"))}


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _told(console: Console, contest: Contest, name: str, figures: dict[str, Any]) -> dict[str, Any]:
    spent = f", {figures['cpu_s']:.0f} CPU s" if "cpu_s" in figures else ""
    quality = f"NDCG@10 {figures['ndcg_10']:.4f}, RMSE {figures['rmse']:.4f}"
    console.print(f"seed {contest.seed}, {name}: {quality}{spent}", soft_wrap=True)
    return figures


def _file(name: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
    return f"{kept}.json"


def _digest(setting: Setting, pairs: int) -> str:
    said_of = json.dumps([asdict(setting), pairs], sort_keys=True)
    return hashlib.sha256(said_of.encode()).hexdigest()[:8]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alluvium bench relevance", description=__doc__)
    default = Setting()
    parser.add_argument("--pairs", type=int, default=default.pairs, help="pairs to learn from")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="passes over them")
    parser.add_argument("--test-pairs", type=int, default=default.test_pairs, help="pairs that judge, whole queries")
    parser.add_argument("--titles", type=int, default=default.titles, help="titles that the shop's adapter learns from")
    parser.add_argument("--interaction", choices=("bi", "cross"), default=default.interaction, help="how a pair meets")
    parser.add_argument("--encoder", default=default.encoder, help="minilm, hash, a folder, a name on the hub")
    parser.add_argument("--seeds", type=int, default=1, help="runs that differ in split and seed")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where home_depot_relevance/ lies")
    parser.add_argument(
        "--method", choices=METHODS, action="append", metavar="NAME", help="only this row; may be given again"
    )
    parser.add_argument("--state", type=Path, default=STATE, help="what is finished is kept here, and not done again")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    parser.add_argument("--toy", action="store_true", help="made-up pairs and the hash encoder: does it still run?")
    return parser


if __name__ == "__main__":
    main()
