"""What is new since the last round, as sequences, and the windows that the gate will judge by."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.lessons import Lessons
from learners.round_input import Person

Indexes = npt.NDArray[np.int32]


class Case(NamedTuple):
    """One prediction to judge a model by."""

    user_id: str
    time_ms: int
    arrival: int
    history: tuple[int, ...]
    target: int


@dataclass(slots=True)
class Fresh:
    """One person's interactions that no round has learned yet.

    Args:
        before: The history when the first of them came.
        items: Their item indexes.
        arrivals: Their numbers in the stream.
        times_ms: When they happened.
    """

    before: list[int]
    items: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)


class Pending:
    """Interactions that wait for a round; those a round took come back if it fails.

    Args:
        length: L, history length of the model.
        newest: Newest interactions that are held out for the gate (and learned in the next round).
        frozen: Cases of earlier windows that are kept to measure forgetting.
        most: Interactions waiting at most; the people who came first go first.
        rng: Source of every random choice.
    """

    def __init__(self, *, length: int, newest: int, frozen: int, most: int, rng: np.random.Generator) -> None:
        self.length, self.most = length, most
        self.waiting = 0
        self._rng = rng
        self._fresh: dict[str, Fresh] = {}
        self._in_round: dict[str, Fresh] = {}
        self._newest: deque[Case] = deque(maxlen=newest)
        self._frozen: list[Case] = []
        self._frozen_room, self._frozen_seen = frozen, 0
        self.lessons = Lessons()

    def add(self, user_id: str, history: list[int], item_index: int, *, time_ms: int, arrival: int) -> None:
        """Add one target interaction, with the history before it."""
        fresh = self._fresh.get(user_id)
        if fresh is None:
            fresh = self._fresh[user_id] = Fresh(before=history[-self.length :])
        fresh.items.append(item_index)
        fresh.arrivals.append(arrival)
        fresh.times_ms.append(time_ms)
        self.waiting += 1
        self._newest.append(Case(user_id, time_ms, arrival, tuple(history[-self.length :]), item_index))
        while self.waiting > self.most and len(self._fresh) > 1:
            first = next(iter(self._fresh))
            self.waiting -= len(self._fresh.pop(first).items)

    def held_out(self) -> float:
        """Return the number in the stream of the first interaction that is held out for the gate."""
        return self._newest[0].arrival if self._newest else math.inf

    def take(self) -> tuple[Indexes, npt.NDArray[np.bool_]]:
        """Take everything but the newest window for a round.

        Returns:
            tokens int32 [M, L+1], left-padded, oldest first; which of `tokens[:, 1:]` are to be learned, bool [M, L].
        """
        self.put_back()
        held_out = self.held_out()
        rows: list[tuple[list[int], int]] = []
        stay: dict[str, Fresh] = {}
        for user_id, fresh in self._fresh.items():
            taken = sum(arrival < held_out for arrival in fresh.arrivals)
            if taken:
                self._in_round[user_id] = Fresh(
                    fresh.before, fresh.items[:taken], fresh.arrivals[:taken], fresh.times_ms[:taken]
                )
                rows.extend(cut(fresh.before, fresh.items[:taken], length=self.length))
            if taken < len(fresh.items):
                before = (fresh.before + fresh.items[:taken])[-self.length :]
                stay[user_id] = Fresh(before, fresh.items[taken:], fresh.arrivals[taken:], fresh.times_ms[taken:])
        self._fresh = stay
        self.waiting = sum(len(fresh.items) for fresh in stay.values())
        tokens, mask = to_arrays(rows, length=self.length)
        self.lessons.begin(tokens, mask)
        return tokens, mask

    def people(self, *, most: int) -> list[Person]:
        """Return whom the round under way learns from, with what it knows of each; the last to have come, at most."""
        return [
            Person(
                user_id=user_id,
                since_ms=None if fresh.before else min(fresh.times_ms),  # when what is older happened is not kept
                items=tuple((fresh.before + fresh.items)[-self.length :]),
            )
            for user_id, fresh in [*self._in_round.items()][-most:]
        ]

    def put_back(self) -> None:
        """Let what the last round took wait again: it failed."""
        self.lessons.abandon()
        if not self._in_round:
            return
        merged = self._in_round
        for user_id, fresh in self._fresh.items():
            earlier = merged.get(user_id)
            if earlier is None:
                merged[user_id] = fresh
            else:
                earlier.items.extend(fresh.items)
                earlier.arrivals.extend(fresh.arrivals)
                earlier.times_ms.extend(fresh.times_ms)
        self._fresh, self._in_round = merged, {}
        self.waiting = sum(len(fresh.items) for fresh in merged.values())

    def done(self) -> None:
        """Drop what the last round took: it was learned. Its window may be drawn into the frozen cases."""
        self.lessons.done()
        self._in_round = {}

    def freeze(self) -> None:
        """Offer the newest window to the frozen cases, a uniform sample of all windows."""
        for case in self._newest:
            self._frozen_seen += 1
            if len(self._frozen) < self._frozen_room:
                self._frozen.append(case)
            elif (place := int(self._rng.integers(self._frozen_seen))) < self._frozen_room:
                self._frozen[place] = case

    def newest(self) -> tuple[Indexes, Indexes]:
        """Return the newest window: histories int32 [W, L], left-padded, and targets int32 [W]."""
        return _cases(self._newest, self.length)

    def frozen(self) -> tuple[Indexes, Indexes]:
        """Return the frozen cases: histories int32 [F, L], left-padded, and targets int32 [F]."""
        return _cases(self._frozen, self.length)

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remove a person wholly if anything of theirs is from before a time; returns how many interactions went."""
        gone = 0
        for held in (self._fresh, self._in_round):
            fresh = held.get(user_id)
            if fresh is not None:
                kept = [place for place, time in enumerate(fresh.times_ms) if time > until_ms]
                gone += len(fresh.items) - len(kept)
                fresh.before = []
                fresh.items = [fresh.items[place] for place in kept]
                fresh.arrivals = [fresh.arrivals[place] for place in kept]
                fresh.times_ms = [fresh.times_ms[place] for place in kept]
                if not kept:
                    del held[user_id]
        self.waiting = sum(len(fresh.items) for fresh in self._fresh.values())
        self._newest = deque((case for case in self._newest if case.user_id != user_id), maxlen=self._newest.maxlen)
        self._frozen = [case for case in self._frozen if case.user_id != user_id]
        return gone

    def user_ids(self) -> set[str]:
        """Return everybody of whom something is held."""
        cases = {case.user_id for case in (*self._newest, *self._frozen)}
        return cases | set(self._fresh) | set(self._in_round)

    def get_state(self) -> dict[str, Any]:
        """Return everything as plain values, what a running round took apart: it comes back or goes with that round."""
        return {
            "fresh": _rows(self._fresh),
            "in_round": _rows(self._in_round),
            "newest": [_values(case) for case in self._newest],
            "frozen": [_values(case) for case in self._frozen],
            "frozen_seen": self._frozen_seen,
            "lessons": self.lessons.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self._fresh = {user_id: Fresh(*values) for user_id, *values in state["fresh"]}
        self._in_round = {user_id: Fresh(*values) for user_id, *values in state["in_round"]}
        self.waiting = sum(len(fresh.items) for fresh in self._fresh.values())
        self._newest.clear()
        self._newest.extend(_case(values) for values in state["newest"])
        self._frozen = [_case(values) for values in state["frozen"]]
        self._frozen_seen = state["frozen_seen"]
        self.lessons.set_state(state["lessons"])


def cut(before: list[int], items: list[int], *, length: int) -> list[tuple[list[int], int]]:
    """Cut a sequence into rows of at most `length + 1` tokens; every new item is a target exactly once.

    Returns:
        Rows of (tokens, how many at the end are targets); each later row starts with at least half a row of context.

    >>> cut([1], [2, 3, 4, 5, 6], length=4)
    [([1, 2, 3, 4, 5], 4), ([2, 3, 4, 5, 6], 1)]
    """
    sequence = before[-length:] + items
    start = len(sequence) - len(items)
    rows: list[tuple[list[int], int]] = []
    while start < len(sequence):
        room = min(length, length + 1 - min(start, length // 2 + 1))  # half a row of context, if there is
        end = min(len(sequence), start + room)
        rows.append((sequence[max(0, end - length - 1) : end], end - start))
        start = end
    return rows


def to_arrays(rows: Iterable[tuple[list[int], int]], *, length: int) -> tuple[Indexes, npt.NDArray[np.bool_]]:
    """Return rows of (tokens, targets at the end) as left-padded tokens [M, L+1] and the targets' mask [M, L].

    >>> tokens, mask = to_arrays([([7, 8], 1)], length=3)
    >>> tokens.tolist(), mask.tolist()
    ([[0, 0, 7, 8]], [[False, False, True]])
    """
    rows = list(rows)
    tokens = np.zeros((len(rows), length + 1), np.int32)
    mask = np.zeros((len(rows), length), np.bool_)
    for place, (row, targets) in enumerate(rows):
        tokens[place, length + 1 - len(row) :] = row
        mask[place, length - min(targets, length) :] = True
    return tokens, mask


def _cases(cases: Iterable[Case], length: int) -> tuple[Indexes, Indexes]:
    cases = list(cases)
    histories = np.zeros((len(cases), length), np.int32)
    for place, case in enumerate(cases):
        kept = case.history[-length:]
        histories[place, length - len(kept) :] = kept
    return histories, np.array([case.target for case in cases], np.int32)


def _case(values: list[Any]) -> Case:
    user_id, time_ms, arrival, history, target = values
    return Case(user_id, time_ms, arrival, tuple(history), target)


def _values(case: Case) -> list[Any]:
    return [case.user_id, case.time_ms, case.arrival, list(case.history), case.target]


def _rows(people: dict[str, Fresh]) -> list[list[Any]]:
    return [
        [user_id, list(fresh.before), list(fresh.items), list(fresh.arrivals), list(fresh.times_ms)]
        for user_id, fresh in people.items()
    ]
