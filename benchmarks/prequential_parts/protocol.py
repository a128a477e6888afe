"""Score before learning: the one loop that every peer goes through, in whatever process it runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.log import DAY_MS, Indexes, Log
from learners.quality.metrics import MISSED, rank_of

Floats = npt.NDArray[np.float32]

REFIT_EVERY_MS = 14 * DAY_MS
BARRED = np.finfo(np.float32).min
UNSCORED = 0  # the rank where an expert did not exist yet


class Moment(NamedTuple):
    """All that a contender is told when it must rank: nothing of what follows.

    Args:
        user: Who, 0..U-1.
        history: What that person turned to so far, oldest first.
        now_ms: When.
        items: N, padding included.
    """

    user: int
    history: Indexes
    now_ms: int
    items: int


class Contender(Protocol):
    """Somebody who ranks the catalogue.

    Attributes:
        block: Moments that may be ranked together; 1 for those that learn from each interaction at once.
    """

    block: int

    def refit(self, past: Log) -> None:
        """Learn from scratch from everything so far; called every 14 days of event time."""

    def scores(self, moments: Sequence[Moment]) -> Floats:
        """Return a score of every item for every moment, [len(moments), N]."""

    def learn(self, moment: Moment, item: int) -> None:
        """Learn one interaction at once, after it was scored."""


@dataclass(frozen=True)
class Outcome:
    """How one contender did.

    Args:
        ranks: By expert, the place of each interaction's item, [T]; `UNSCORED` where there was no such expert yet.
        train_s: CPU seconds spent learning.
        cpu_s: CPU seconds altogether.
        facts: JSON-able: settings and what happened.
    """

    ranks: dict[str, npt.NDArray[np.int64]]
    train_s: float
    cpu_s: float
    facts: dict[str, Any] = field(default_factory=dict)


def place_of(scores: Floats, item: int, *, known: int, met: Indexes | None) -> int:
    """Return the item's place among all that were known, 1 is best; the lower index first among equals.

    Scores that are not numbers rank nothing: whoever diverged misses, instead of winning every comparison with NaN.

    Args:
        scores: Of every item, [>= known].
        item: Which came.
        known: N before it came, padding included.
        met: Items that are barred, for everybody alike; None: none.

    >>> scores = np.array([9, 1, 3, 2, 0], np.float32)
    >>> place_of(scores, 3, known=5, met=None), place_of(scores, 3, known=5, met=np.array([2]))
    (2, 1)
    """
    if item >= known:
        return MISSED
    ranked = scores[1:known]
    if not np.isfinite(ranked).all():
        return MISSED
    if met is not None and len(met):
        if item in met:
            return MISSED
        ranked = ranked.copy()
        ranked[met - 1] = BARRED
    return rank_of(ranked, item - 1)


def run(
    contender: Contender,
    log: Log,
    *,
    refit_every_ms: int = REFIT_EVERY_MS,
    progress: Callable[[int], None] = lambda _done: None,
) -> Outcome:
    """Let a peer rank every interaction before it learns it.

    Args:
        contender: Who.
        log: What happened.
        refit_every_ms: Event time between two calls of `refit`; the first comes after the first such time.
        progress: Called with the interactions done so far, window by window.
    """
    ranks = np.zeros(len(log), np.int64)
    train_s, started, refits = 0.0, time.process_time(), 0
    for start, end in log.windows(refit_every_ms):
        if start:
            before = time.process_time()
            contender.refit(_until(log, start))
            train_s, refits = train_s + time.process_time() - before, refits + 1
        for first in range(start, end, contender.block):
            places = range(first, min(first + contender.block, end))
            moments = [_moment(log, place) for place in places]
            scores = contender.scores(moments)
            for place, moment, row in zip(places, moments, scores, strict=True):
                met = moment.history if log.once else None
                ranks[place] = place_of(row, int(log.items[place]), known=moment.items, met=met)
            before = time.process_time()
            for place, moment in zip(places, moments, strict=True):
                contender.learn(moment, int(log.items[place]))
            train_s += time.process_time() - before
        progress(end)
    facts = {"refits": refits, "learns_online": contender.block == 1}
    return Outcome({"served": ranks}, train_s, time.process_time() - started, facts)


def _moment(log: Log, place: int) -> Moment:
    return Moment(int(log.users[place]), log.history(place), int(log.times_ms[place]), int(log.known[place]))


def _until(log: Log, end: int) -> Log:
    """The log as it was before an interaction: nothing after it can be reached from what is returned."""
    users, items, times_ms, known = log.users[:end], log.items[:end], log.times_ms[:end], log.known[:end]
    return Log(log.name, users.copy(), items.copy(), times_ms.copy(), known.copy(), once=log.once)
