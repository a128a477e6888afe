"""New markets: what each learns by itself and from the store, after so many events."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.knowledge_parts.log import HOME, OPENING_MS, Floats, Log
from benchmarks.knowledge_parts.rows import Setting, round_of
from learners.knowledge.reuse import Choice, TrialConfig, choose_start, first_round, prepare_start
from learners.knowledge.store import KnowledgeStore
from learners.releases.release import load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import judge_releases, run_round

ENCODER = "bench"  # donor and markets read the same vectors
LEARN_SHARE = 0.7  # the older part of a market's events can be learned; the newest 30 % judge
TRIAL_SHARE = 0.8  # of the events learned so far, the newest fifth judges the trial
LEAST_PEOPLE = 20
FIRST = 100
# By the rule: a country with at least 20 customers is a market; smaller ones are grouped by region where that makes 20.
REGIONS: Mapping[str, tuple[str, ...]] = {
    "Southern Europe": ("Portugal", "Italy", "Greece", "Malta", "Cyprus"),
    "Nordic": ("Norway", "Finland", "Sweden", "Denmark", "Iceland"),
}
NDCG = "newest_ndcg_10"


@dataclass(frozen=True)
class Market:
    """A market's events after the opening, oldest first.

    Args:
        name: Country or region.
        log: Its events.
    """

    name: str
    log: Log

    @property
    def learnable(self) -> int:
        """N: events before those that judge."""
        return round(LEARN_SHARE * len(self.log))

    def first(self, events: int | None) -> "Market":
        """Return the market as it was after so many events; None: as it is."""
        return Market(self.name, self.log.where(np.arange(len(self.log)) < (events or len(self.log))))


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where a market may start from: a store of real knowledge, and one whose donor was shuffled."""

    right: KnowledgeStore
    wrong: KnowledgeStore


def markets_of(log: Log, *, least_people: int = LEAST_PEOPLE) -> list[Market]:
    """Return every market by the rule, most events first; whoever ever bought at home is left out.

    Args:
        log: All of it.
        least_people: Customers in the whole log, before or after the opening, that make a market.
    """
    abroad = log.where(~np.isin(log.users, log.of([HOME]).users))
    single = [name for name in log.countries if name != HOME and abroad.of([name]).people() >= least_people]
    grouped = {
        region: [name for name in names if name not in single]
        for region, names in REGIONS.items()
        if abroad.of([name for name in names if name not in single]).people() >= least_people
    }
    groups = {name: [name] for name in single} | grouped
    opened = abroad.between(start_ms=OPENING_MS)
    found = [Market(name, opened.of(countries)) for name, countries in groups.items()]
    return sorted(found, key=lambda market: -len(market.log))


def points_of(learnable: int) -> list[int]:
    """Return after how many events a market is looked at: 100, a tenth, a fifth, and all that can be learned.

    >>> points_of(3_000), points_of(400)
    ([100, 300, 600, 3000], [80, 100, 400])
    """
    return sorted({FIRST, learnable // 5, learnable, *([learnable // 10] if learnable // 10 > FIRST else [])})


def run_market(market: Market, stores: Stores, *, vectors: Floats, setting: Setting, seed: int) -> list[dict[str, Any]]:
    """Return what a market reaches after each number of events: from scratch, from the store, from a wrong donor.

    Every start sees the same events, epochs, learning rate and seed, and is judged on the same newest part.
    """
    untaught = _untaught(market, stores.right, vectors=vectors, setting=setting, seed=seed)
    rows: list[dict[str, Any]] = [{"events": 0, "reuse": untaught}]
    for events in points_of(market.learnable):
        trial_input, full = _inputs(market, events, vectors=vectors, setting=setting, seed=seed)
        scratch = _reached(full)
        row: dict[str, Any] = {"events": events, "scratch": scratch}
        for name, store in (("reuse", stores.right), ("wrong", stores.wrong)):
            with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
                choice = choose_start(store, trial_input, Path(folder), encoder=ENCODER, config=TRIAL)
                reached = scratch if choice.start is None else _reached(first_round(full, choice))
            row |= {name: reached, f"{name}_chosen": choice.entry_id is not None, f"{name}_trial": _trials(choice)}
            row[f"{name}_plan"] = [choice.epochs, choice.learning_rate]
            row[f"{name}_planned"] = [[trial.epochs, trial.learning_rate, trial.ndcg_10] for trial in choice.planned]
        rows.append(row)
    return rows


TRIAL = TrialConfig(window_share=1.0)  # the trial's window is its own: the figures are measured on later events


def _inputs(
    market: Market, events: int, *, vectors: Floats, setting: Setting, seed: int
) -> tuple[RoundInput, RoundInput]:
    """Return the round that trials are made on and the one that is trained and measured.

    Both know only the first so many events; the trial keeps the newest fifth of those to judge.
    """
    cut = round(TRIAL_SHARE * events)
    trial = round_of(
        market.log,
        learn=(0, cut),
        judge=(cut, events),
        vectors=vectors,
        setting=setting,
        training=setting.training,
        seed=seed,
    )
    full = round_of(
        market.log,
        learn=(0, events),
        judge=(market.learnable, len(market.log)),
        vectors=vectors,
        setting=setting,
        training=setting.training,
        seed=seed,
    )
    return trial, full


def _reached(round_input: RoundInput) -> float:
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        return run_round(round_input, Path(folder)).metrics[NDCG]


def _untaught(market: Market, store: KnowledgeStore, *, vectors: Floats, setting: Setting, seed: int) -> float:
    """NDCG@10 of the donor in the new market before it learns anything there."""
    _, full = _inputs(market, FIRST, vectors=vectors, setting=setting, seed=seed)
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        start = Path(folder) / "start"
        prepare_start(store, store.entries(kind="adapter")[0], replace(full, incumbent=None), start)
        found: float = judge_releases(load_release(start), None, full).evidence["candidate"]["newest"]["ndcg_10"]
        return found


def _trials(choice: Choice) -> Sequence[float | None]:
    """From scratch first, then donors; None where a donor could not even be tried."""
    return [None if trial.refused else trial.ndcg_10 for trial in choice.trials]
