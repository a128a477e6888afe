"""Alluvium's own contenders: the real learner, its rounds in line, and full retraining in its place."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.datasets import Dataset
from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import REFIT_EVERY_MS, Outcome, place_of
from learners.disk import whole_directory
from learners.evaluation.prequential import evaluate
from learners.items.encoder import Encoder
from learners.items.shelf import Describers, shelf_of
from learners.learner_config import LearnerConfig
from learners.quality.examiner import Seen
from learners.quality.shadow import ShadowConfig
from learners.ranking.ranker import Judgement
from learners.replay.pending import to_arrays
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundInput
from learners.rounds.round import RoundResult, run_round
from learners.rounds.triggers import TriggerConfig

Ranks = npt.NDArray[np.int64]

EXPERTS = ("served", "shared_model", "fast_memory")
NEVER = 2**62
_SECONDS = "seconds.json"


class Ledger:
    """Write down where each expert put each interaction's item, as a witness of the evaluation.

    Args:
        log: The same interactions, in the same order.
    """

    def __init__(self, log: Log) -> None:
        self.ranks: dict[str, Ranks] = {expert: np.zeros(len(log), np.int64) for expert in EXPERTS}
        self._log, self._next = log, 0

    def __call__(self, seen: Seen, judgement: Judgement) -> None:
        """Take one judgement, before anything learns from its outcome.

        Raises:
            RuntimeError: If the evaluation and the log do not walk in step, which would void every comparison.
        """
        log, place = self._log, self._next
        if int(log.items[place]) != seen.item_index or int(log.known[place]) != seen.items:
            raise RuntimeError(
                f"interaction {place}: item {seen.item_index} of {seen.items}; "
                f"expected {log.items[place]} of {log.known[place]}"
            )
        self._next += 1
        met = log.history(place) if log.once else None
        for expert, scores in zip(
            EXPERTS, (judgement.logits, judgement.shared, judgement.opinion.log_probabilities), strict=True
        ):
            if scores is not None:
                self.ranks[expert][place] = place_of(scores, seen.item_index, known=seen.items, met=met)


@dataclass(slots=True)
class Clock:
    """Run rounds and count their CPU seconds: to the last optimizer step, and after it (judging, writing).

    Args:
        prepare: Changes what a round is given.
        keep: Where finished rounds are kept, so that a stopped run need not train them again; None: nowhere.
    """

    prepare: Callable[[RoundInput], RoundInput] = lambda given: given
    keep: Path | None = None
    train_s: float = 0.0
    after_s: float = 0.0
    steps: int = 0
    rounds: int = 0

    def __call__(self, round_input: RoundInput, folder: Path) -> RoundResult:
        """Run one round in this thread, or take it from where it was kept."""
        self.rounds += 1
        result, train_s, after_s = self._timed(round_input, folder)
        self.train_s, self.after_s = self.train_s + train_s, self.after_s + after_s
        self.steps += int(result.training.get("steps", 0))
        return result

    def _timed(self, round_input: RoundInput, folder: Path) -> tuple[RoundResult, float, float]:
        kept = None if self.keep is None else self.keep / f"round-{self.rounds:04d}"
        if kept is not None and kept.exists():
            train_s, after_s = json.loads((kept / _SECONDS).read_text(encoding="utf-8"))
            return RoundResult.load(kept), train_s, after_s
        started = last = time.thread_time()

        def beat(_step: int, _steps: int) -> None:
            nonlocal last
            last = time.thread_time()

        result = run_round(self.prepare(round_input), folder, beat=beat)
        train_s, after_s = last - started, time.thread_time() - last
        if kept is not None:
            (folder / _SECONDS).write_text(json.dumps([train_s, after_s]), encoding="utf-8")
            with whole_directory(kept) as target:
                shutil.copytree(folder, target, dirs_exist_ok=True)
        return result, train_s, after_s


@dataclass(frozen=True)
class Stopping:
    """When a training from scratch is done: fixed before it starts, so that its learning rate can fall to zero.

    Args:
        most: Epochs at most, which a short past needs ...
        steps: ... until they take more optimizer steps than this ...
        least: ... of which there are so many epochs in any case.

    >>> [Stopping(most=24, steps=1_500, least=8).epochs(each) for each in (10, 100, 300)]
    [24, 15, 8]
    """

    most: int
    steps: int
    least: int

    def epochs(self, steps_per_epoch: int) -> int:
        """Return how many epochs there are."""
        return max(self.least, min(self.most, self.steps // max(1, steps_per_epoch)))


def continual(
    dataset: Dataset,
    *,
    encoder: Encoder,
    config: LearnerConfig,
    seed: int,
    strategy: str,
    progress: Callable[[int], None],
) -> Outcome:
    """One of Alluvium's strategies, as `alluvium evaluate` runs it."""
    return _outcome(dataset, Clock(), encoder=encoder, config=config, seed=seed, strategy=strategy, progress=progress)


def retraining(
    dataset: Dataset,
    *,
    encoder: Encoder,
    config: LearnerConfig,
    stopping: Stopping,
    seed: int,
    progress: Callable[[int], None],
    keep: Path | None = None,
    every_ms: int = REFIT_EVERY_MS,
) -> Outcome:
    """Full retraining: every 14 days the same network, from scratch, on everything so far, served in the same mixture.

    It always serves what it trained: no gate, no rollback, and no interactions held out. A round depends on the log
    and the seed alone, so finished ones may be kept in `keep`.
    """

    def everything(round_input: RoundInput) -> RoundInput:
        whole = whole_past(round_input, dataset.log, int(round_input.facts["interactions"]))
        epochs = stopping.epochs(-(-len(whole.tokens) // whole.training.first_batch_rows))
        return replace(whole, training=replace(whole.training, first_epochs=epochs))

    config = replace(
        config,
        trigger=TriggerConfig(interactions=NEVER, interval_ms=every_ms, on_drift=False),
        gate=GateConfig(max_regression=1.0, max_forgetting=1.0, popularity_floor=0.0),
        shadow=ShadowConfig(interactions=0),
        newest_window=1,
        frozen_cases=1,
    )
    clock = Clock(everything, keep)
    return _outcome(dataset, clock, encoder=encoder, config=config, seed=seed, strategy="naive", progress=progress)


def whole_past(round_input: RoundInput, log: Log, end: int) -> RoundInput:
    """Give a round all interactions before `end`, every one a target once, and nothing to start from."""
    length = round_input.model.history_length
    people: dict[int, list[int]] = {}
    for user, item in zip(log.users[:end].tolist(), log.items[:end].tolist(), strict=True):
        people.setdefault(user, []).append(item)
    rows = (row for items in people.values() for row in slices(items, length=length))
    tokens, mask = to_arrays(rows, length=length)
    return replace(
        round_input,
        tokens=tokens,
        loss_mask=mask,
        weight=np.ones(len(tokens), np.float32),
        replayed=np.zeros(len(tokens), np.bool_),
        incumbent=None,
    )


def slices(items: list[int], *, length: int) -> Iterator[tuple[list[int], int]]:
    """Cut a whole past into rows of `length` targets; unlike a round's rows, none is spent on context that was learned.

    >>> list(slices([1, 2, 3, 4, 5, 6, 7], length=3))
    [([1, 2, 3], 3), ([3, 4, 5, 6], 3), ([6, 7], 1)]
    """
    start = 0
    while start < len(items):
        end = min(len(items), start + length)
        yield items[max(0, start - 1) : end], end - start
        start = end


def _outcome(dataset: Dataset, clock: Clock, *, encoder: Encoder, **given: Any) -> Outcome:
    shelf = shelf_of(dataset.items, Describers(texts=encoder))
    ledger, started = Ledger(dataset.log), time.process_time()
    report = evaluate(dataset.events, shelf, witness=ledger, run=clock, **given)
    facts = {
        "rounds": clock.rounds,
        "steps": clock.steps,
        "judging_s": clock.after_s,
        "releases": report["releases"],
        "rollbacks": report["rollbacks"],
        "refused": sum(gate.get("outcome") == "refused" for gate in report["gates"]),
        "learns_online": True,
    }
    return Outcome(ledger.ranks, clock.train_s, time.process_time() - started, facts)
