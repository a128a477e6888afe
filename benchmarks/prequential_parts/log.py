"""A log as arrays: the same interactions, in the same order, for every contender."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Log:
    """The interactions that are predicted, oldest first.

    Args:
        name: Of the data set.
        users: Who, 0..U-1, [T].
        items: What, by catalogue index (0 is padding), [T].
        times_ms: When, [T].
        known: N at that moment, padding included: items from there on are unknown and cannot be ranked, [T].
        once: Whether nobody turns to an item twice, so that what a person has met is barred, for all contenders alike.

    >>> log = Log("toy", np.array([0, 1, 0]), np.array([5, 6, 7]), np.array([1, 2, 3]), np.full(3, 8), once=False)
    >>> log.history(2).tolist(), log.people, log.catalogue
    ([5], 2, 8)
    """

    name: str
    users: Indexes
    items: Indexes
    times_ms: Times
    known: Indexes
    once: bool

    def __len__(self) -> int:
        """T, interactions."""
        return len(self.users)

    @cached_property
    def people(self) -> int:
        """U."""
        return int(self.users.max()) + 1 if len(self) else 0

    @cached_property
    def catalogue(self) -> int:
        """N at the end, padding included."""
        return int(max(self.known.max(), self.items.max() + 1)) if len(self) else 1

    @cached_property
    def _by_person(self) -> tuple[Indexes, Times, Times]:
        """All items ordered by person, then time; where each interaction stands there; where its person begins."""
        order = np.argsort(self.users, kind="stable")
        place = np.empty(len(self), np.int64)
        place[order] = np.arange(len(self))
        begins = np.searchsorted(self.users[order], np.arange(self.people))
        return self.items[order], place, begins[self.users]

    def history(self, place: int, length: int | None = None) -> Indexes:
        """Return what the person of an interaction had turned to before it, oldest first.

        Args:
            place: Which interaction.
            length: Most items, the newest; None: all.
        """
        ordered, at, begins = self._by_person
        end, begin = int(at[place]), int(begins[place])
        return ordered[begin if length is None else max(begin, end - length) : end]

    def windows(self, length_ms: int) -> list[tuple[int, int]]:
        """Cut the log by event time, the clock starting at its first interaction; empty windows are left out.

        Returns:
            First interaction of each window and the one after its last.

        >>> days = np.array([0, 1, 15, 50]) * DAY_MS
        >>> Log("toy", np.zeros(4, int), np.ones(4, int), days, np.full(4, 2), once=False).windows(14 * DAY_MS)
        [(0, 2), (2, 3), (3, 4)]
        """
        if not len(self):
            return []
        number = (np.maximum.accumulate(self.times_ms) - self.times_ms[0]) // length_ms
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        return [(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(self)], strict=True)]

    def save(self, path: Path) -> None:
        """Write it for a peer's process."""
        arrays = {name: getattr(self, name) for name in ("users", "items", "times_ms", "known")}
        write_arrays(path, name=np.array(self.name), once=np.array(self.once), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Log":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("users", "items", "times_ms", "known")}
            return cls(name=str(stored["name"]), once=bool(stored["once"]), **arrays)


def write_arrays(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write arrays as one .npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez_compressed(unfinished, allow_pickle=False, **arrays)
    unfinished.replace(path)
