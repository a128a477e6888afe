"""`alluvium bench reuse`: a new market that starts from the knowledge store, against one that starts from scratch.

Online Retail, split by country and time: the United Kingdom before July 2011 teaches one model, which goes into the
knowledge store; other countries, from then on, are new markets. A market learns its first n events, from scratch or
from what `choose_start` chose on those same events, and ranks the whole catalogue for each of its newest 30 % of
events. A second store holds the same knowledge with its numbers shuffled, which the trial has to refuse.
docs/knowledge.md says more.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from rich.console import Console

from benchmarks.ingest import machine
from benchmarks.knowledge_parts.common import FULL, TOY, check, once, parser_of, two_stores, vectors_of, write
from benchmarks.knowledge_parts.log import HOME, OPENING_MS, Floats, Log, online_retail, toy_world
from benchmarks.knowledge_parts.markets import ENCODER, NDCG, Market, Stores, markets_of, run_market
from benchmarks.knowledge_parts.rows import Setting, round_of
from benchmarks.knowledge_parts.tables import console_table, markdown_table, spread, yes
from benchmarks.knowledge_parts.teaching import deposit_shuffled, teach

TOY_COUNTRIES = {"Germany": 24, "France": 22}
TEACHER_SHARE = 0.95  # of the teacher's events; the newest rest is its gate's window
HEADER = (
    "market",
    "people",
    "N",
    "scratch, 100",
    "store, 100",
    "scratch, N",
    "store, 0",
    "store, N/5",
    "store, N",
    "events needed",
    "N/5 reaches scratch",
    "above at 100",
    "not below store, 0",
    "wrong donor refused",
)


def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet, print the table, write the JSON."""
    parser = parser_of("reuse", __doc__)
    parser.add_argument("--most-events", type=int, help="only the first so many events of each new market")
    options = parser.parse_args(arguments)
    check(options)
    torch.set_num_threads(1)
    console = Console(width=200)
    setting = TOY if options.toy else FULL
    log = toy_world(TOY_COUNTRIES) if options.toy else online_retail(options.data_dir)
    vectors = vectors_of(log, options)
    state = options.state / f"reuse-{_digest(log, setting, options)}"
    found: dict[str, list[list[dict[str, Any]]]] = {}
    markets = [market.first(options.most_events) for market in markets_of(log)]
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder, two_stores(Path(folder)) as (right, wrong):
        taught = teach(right, teacher_round(log, vectors, setting), state / "teacher", task="uk", encoder=ENCODER)
        console.print(f"{HOME} taught: NDCG@10 {taught[NDCG]:.4f} on its newest events")
        deposit_shuffled(right, wrong)
        facts = {
            "teacher": dict(taught),
            "encoder": "hash" if options.toy else options.encoder,
            "most_events": options.most_events,
            "setting": asdict(setting),
            "machine": machine(),
        }
        for seed in range(options.seeds):
            for market in markets:
                rows = once(
                    state / f"{market.name.replace(' ', '-')}-{len(market.log)}-{seed}.json",
                    lambda market=market, seed=seed: run_market(  # type: ignore[misc]
                        market, Stores(right=right, wrong=wrong), vectors=vectors, setting=setting, seed=seed
                    ),
                )
                found.setdefault(market.name, []).append(rows)
                curve = ", ".join(f"{row['events']}: {row.get('scratch', 0):.3f}/{row['reuse']:.3f}" for row in rows)
                console.print(f"{market.name}, seed {seed}, events: scratch/store {curve}", soft_wrap=True)
            report = figures(markets, found) | facts
            write(options, report, markdown(report))
    console.print(console_table("bench reuse: NDCG@10", HEADER, table_rows(report)))
    for line in said(report):
        console.print(line, soft_wrap=True)


def teacher_round(log: Log, vectors: Floats, setting: Setting) -> Any:
    """Return what the home country teaches with: its purchases before the opening."""
    home = log.of([HOME]).between(end_ms=OPENING_MS)
    cut = round(TEACHER_SHARE * len(home))
    return round_of(
        home,
        learn=(0, cut),
        judge=(cut, len(home)),
        vectors=vectors,
        setting=setting,
        training=setting.donor_training,
        seed=0,
    )


def figures(markets: Sequence[Market], found: Mapping[str, list[list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return every market's curves over seeds, and whether the bars are met.

    Args:
        markets: In the order of the table.
        found: Market -> rows of `run_market`, a list each seed.
    """
    each: dict[str, dict[str, Any]] = {}
    for market in markets:
        seeds = found[market.name]
        curve = [
            {
                "events": at[0]["events"],
                **{name: [row[name] for row in at] for name in at[0] if name != "events"},
            }
            for at in zip(*seeds, strict=True)
        ]
        each[market.name] = {"people": market.log.people(), "learnable": market.learnable, "curve": curve} | _bars(
            curve, market.learnable
        )
    trials = [refused for row in each.values() for refused in row["wrong_refused"]]
    return {
        "markets": each,
        "wrong_refused": [sum(trials), len(trials)],
        "claims": {
            "every market from the store reaches the from-scratch final NDCG@10 with <= 1/5 of the events": all(
                row["fifth_reaches"] for row in each.values()
            ),
            "after 100 events every market from the store is above from scratch": all(
                row["above_at_100"] for row in each.values()
            ),
            "learning all events from the store never ends below the untouched donor": all(
                row["keeps_the_donor"] for row in each.values()
            ),
            f"every trial refuses the wrong donor ({sum(trials)} of {len(trials)} do)": all(trials),
        },
    }


def _bars(curve: Sequence[Mapping[str, Any]], learnable: int) -> dict[str, Any]:
    """Return what a market's mean curve reaches."""
    taught = [row for row in curve if row["events"]]
    final = float(np.mean(taught[-1]["scratch"]))
    at = {row["events"]: row for row in curve}
    needed = [row["events"] for row in curve if float(np.mean(row["reuse"])) >= final]
    return {
        "events_needed": needed[0] if needed else None,
        "fifth_reaches": float(np.mean(at[learnable // 5]["reuse"])) >= final,
        "above_at_100": float(np.mean(at[100]["reuse"])) > float(np.mean(at[100]["scratch"])),
        "keeps_the_donor": float(np.mean(taught[-1]["reuse"])) >= float(np.mean(at[0]["reuse"])),
        "wrong_refused": [not chosen for row in taught for chosen in row["wrong_chosen"]],
        "right_chosen": [chosen for row in taught for chosen in row["reuse_chosen"]],
    }


def table_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the main table's cells, a market a row."""
    rows = []
    for name, market in report["markets"].items():
        at = {row["events"]: row for row in market["curve"]}
        learnable, refused = market["learnable"], market["wrong_refused"]
        rows.append(
            [
                name,
                str(market["people"]),
                f"{learnable:,}",
                spread(at[100]["scratch"]),
                spread(at[100]["reuse"]),
                spread(at[learnable]["scratch"]),
                spread(at[0]["reuse"][:1]),
                spread(at[learnable // 5]["reuse"]),
                spread(at[learnable]["reuse"]),
                "none reached it" if market["events_needed"] is None else f"{market['events_needed']:,}",
                yes(market["fifth_reaches"]),
                yes(market["above_at_100"]),
                yes(market["keeps_the_donor"]),
                f"{sum(refused)} of {len(refused)}",
            ]
        )
    return rows


def said(report: Mapping[str, Any]) -> list[str]:
    """Return what holds and what does not, a line each."""
    return [f"{claim}: {'holds' if holds else 'does NOT hold'}" for claim, holds in report["claims"].items()]


def markdown(report: Mapping[str, Any]) -> str:
    """Return the main table, what holds, and every point of every curve."""
    lines = "\n".join(f"- {line}" for line in said(report))
    return "\n\n".join((markdown_table(HEADER, table_rows(report)), lines, curves(report)))


def curves(report: Mapping[str, Any]) -> str:
    """Return every point of every curve as Markdown."""
    header = (
        "market",
        "events",
        "from scratch",
        "from the store",
        "store chosen",
        "trained",
        "wrong store",
        "wrong chosen",
    )
    cells = []
    for name, market in report["markets"].items():
        for row in (row for row in market["curve"] if row["events"]):
            chosen = (f"{sum(row[which])} of {len(row[which])}" for which in ("reuse_chosen", "wrong_chosen"))
            right, wrong = chosen
            values = (spread(row[which]) for which in ("scratch", "reuse", "wrong"))
            scratch, reuse, misled = values
            trained = ", ".join(_plan(*plan) for plan in row["reuse_plan"])
            cells.append([name, f"{row['events']:,}", scratch, reuse, right, trained, misled, wrong])
    return markdown_table(header, cells)


def _plan(epochs: int | None, learning_rate: float | None) -> str:
    """Say how far a donor was trained.

    >>> _plan(None, None), _plan(0, 2e-3), _plan(24, 2e-4)
    ('scratch', 'not', '24 at 0.0002')
    """
    if epochs is None:
        return "scratch"
    return f"{epochs} at {learning_rate:g}" if epochs else "not"


def _digest(log: Log, setting: Setting, options: Any) -> str:
    """Tell runs of other data or settings apart."""
    said = msgspec.json.encode([len(log), msgspec.to_builtins(setting), options.encoder])
    return hashlib.sha256(said).hexdigest()[:8]


if __name__ == "__main__":
    main()
