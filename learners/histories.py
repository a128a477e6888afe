"""Everybody's last interactions, exact to the event, in bounded memory."""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.interactions import is_target_code


class Past(NamedTuple):
    """What a person was interested in so far: the input of every expert.

    Args:
        items: Item indexes of target interactions, oldest first, int64 [L].
        times_ms: When they happened, int64 [L].
    """

    items: npt.NDArray[np.int64]
    times_ms: npt.NDArray[np.int64]


EMPTY_PAST = Past(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(slots=True)
class History:
    """One person's last interactions, ordered by event time, then by arrival; about a kilobyte of fifty."""

    items: "array[int]" = field(default_factory=lambda: array("q"))
    times_ms: "array[int]" = field(default_factory=lambda: array("q"))
    codes: "array[int]" = field(default_factory=lambda: array("b"))

    def insert(self, item_index: int, time_ms: int, code: int, *, length: int) -> None:
        """Add one interaction, a late one at its place in time; drop the oldest beyond `length`."""
        place = len(self.items)
        if place and time_ms < self.times_ms[-1]:
            place = bisect_right(self.times_ms, time_ms)
        self.items.insert(place, item_index)
        self.times_ms.insert(place, time_ms)
        self.codes.insert(place, code)
        if len(self.items) > length:
            del self.items[0], self.times_ms[0], self.codes[0]

    def past(self) -> Past:
        """Return the target interactions as arrays."""
        items, times_ms = np.array(self.items, np.int64), np.array(self.times_ms, np.int64)
        if all(map(is_target_code, self.codes)):
            return Past(items, times_ms)
        kept = np.fromiter(map(is_target_code, self.codes), np.bool_, len(items))
        return Past(items[kept], times_ms[kept])


class Histories:
    """The last interactions of the most recently active people.

    Args:
        length: L, interactions kept per person; at least 1.
        max_users: People kept; whoever was quiet longest goes first.

    >>> histories = Histories(length=2, max_users=10)
    >>> for item, time in [(7, 10), (8, 30), (9, 20)]:
    ...     histories.append("ann", item, time, 0)
    >>> histories.past("ann").items.tolist()
    [9, 8]
    """

    def __init__(self, *, length: int = 50, max_users: int = 200_000) -> None:
        self.length, self.max_users = length, max_users
        self._users: OrderedDict[str, History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._users

    def past(self, user_id: str) -> Past:
        """Return what the person was interested in so far; empty for a stranger."""
        history = self._users.get(user_id)
        return history.past() if history else EMPTY_PAST

    def append(self, user_id: str, item_index: int, time_ms: int, code: int) -> None:
        """Add an interaction of any type; `code` as `interactions.code_of` gives it."""
        history = self._users.get(user_id)
        if history is None:
            history = self._users[user_id] = History()
            if len(self._users) > self.max_users:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(user_id)
        history.insert(item_index, time_ms, code, length=self.length)

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remove a person's interactions up to and including a time; returns how many went."""
        history = self._users.get(user_id)
        if history is None:
            return 0
        gone = bisect_right(history.times_ms, until_ms)
        del history.items[:gone], history.times_ms[:gone], history.codes[:gone]
        if not history.items:
            del self._users[user_id]
        return gone

    def get_state(self) -> dict[str, Any]:
        """Return everything as plain values and arrays, least recently active person first."""
        histories = self._users.values()
        return {
            "users": list(self._users),
            "lengths": np.array([len(history.items) for history in histories], np.int32),
            "items": np.array([item for history in histories for item in history.items], np.int32),
            "times_ms": np.array([time for history in histories for time in history.times_ms], np.int64),
            "codes": np.array([code for history in histories for code in history.codes], np.int8),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self._users = OrderedDict()
        items, times, codes = state["items"].tolist(), state["times_ms"].tolist(), state["codes"].tolist()
        end = 0
        for user_id, length in zip(state["users"], state["lengths"].tolist(), strict=True):
            start, end = end, end + length
            self._users[user_id] = History(
                array("q", items[start:end]), array("q", times[start:end]), array("b", codes[start:end])
            )
