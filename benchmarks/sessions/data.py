"""Sessions by period, and the questions that a period asks: every prefix of a session, and the click that followed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sessions.errors import SessionsFileError

Ints = npt.NDArray[np.int64]

PADDING = 0
COLUMNS = ("period", "session_id", "item_id")
EXPECTED = f"a Parquet file with the columns {', '.join(COLUMNS)}, its rows in time order"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions one after another, in the order in which they ended; clicks in time order.

    Args:
        items: Item indexes from 1 on, [E].
        starts: Where each session starts in `items`, and their end, [S+1].
    """

    items: Ints
    starts: Ints

    def __len__(self) -> int:
        """Sessions."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Clicks of each session, [S]."""
        return np.diff(self.starts)

    def owners(self) -> Ints:
        """Return which session each click belongs to, [E].

        >>> Sessions(np.array([5, 6, 7]), np.array([0, 2, 3])).owners().tolist()
        [0, 0, 1]
        """
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: Ints) -> "Sessions":
        """Return some sessions, in the order given.

        >>> Sessions(np.array([5, 6, 7]), np.array([0, 2, 3])).take(np.array([1, 0])).items.tolist()
        [7, 5, 6]
        """
        lengths = self.lengths[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[rows], lengths)
        return Sessions(self.items[places], starts)

    def known_only(self, items: int) -> "Sessions":
        """Return what a test may ask: without items above `items`, then without sessions of one click.

        >>> Sessions(np.array([1, 9, 2, 3, 9]), np.array([0, 3, 5])).known_only(3).items.tolist()
        [1, 2]
        """
        known = self.items <= items
        lengths = np.bincount(self.owners()[known], minlength=len(self))
        kept = Sessions(self.items[known], np.concatenate([[0], np.cumsum(lengths)]))
        return kept.take(np.flatnonzero(lengths > 1))


@dataclass(frozen=True, slots=True)
class Questions:
    """Every prefix of some sessions, and what was clicked next.

    Args:
        histories: The newest clicks before each target, oldest first, right-padded with 0, [Q, L].
        lengths: Clicks in each row of `histories`, at most L, [Q].
        targets: [Q].
        sessions: Which session each belongs to, [Q].
    """

    histories: Ints
    lengths: Ints
    targets: Ints
    sessions: Ints

    def __len__(self) -> int:
        """Questions."""
        return len(self.targets)

    def newest(self) -> "Questions":
        """Return the same questions with only the newest click of each history."""
        rows = np.arange(len(self))
        last = self.histories[rows, self.lengths - 1][:, None]
        return Questions(last, np.ones_like(self.lengths), self.targets, self.sessions)

    def take(self, rows: Ints | slice) -> "Questions":
        return Questions(self.histories[rows], self.lengths[rows], self.targets[rows], self.sessions[rows])


def questions(sessions: Sessions, *, history_length: int) -> Questions:
    """Return the questions of some sessions, in order.

    >>> asked = questions(Sessions(np.array([4, 5, 6]), np.array([0, 3])), history_length=2)
    >>> asked.histories.tolist(), asked.targets.tolist()
    ([[4, 0], [4, 5]], [5, 6])
    """
    owners = sessions.owners()
    places = np.flatnonzero(np.arange(len(owners)) > sessions.starts[owners])  # every click but the first
    before = places - sessions.starts[owners[places]]
    lengths = np.minimum(before, history_length)
    steps = np.arange(history_length)
    inside = steps < lengths[:, None]
    source = np.where(inside, (places - lengths)[:, None] + steps, 0)
    histories = np.where(inside, sessions.items[source] if len(sessions.items) else source, PADDING)
    return Questions(histories, lengths, sessions.items[places], owners[places])


@dataclass(frozen=True, slots=True)
class Periods:
    """All periods, their items numbered from 1 in the order in which they were first clicked.

    Args:
        sessions: Of each period.
        known: Items seen by the end of each period: they have the indexes 1 to this.
    """

    sessions: tuple[Sessions, ...]
    known: tuple[int, ...]

    def __len__(self) -> int:
        """Periods."""
        return len(self.sessions)

    def test(self, period: int) -> Sessions:
        """Return the sessions that a period is tested on: unseen items dropped, then sessions of one click."""
        return self.sessions[period].known_only(self.known[period - 1])


def read(path: Path) -> Periods:
    """Return the periods of a Parquet file.

    Args:
        path: With the columns `period` (whole numbers), `session_id` and `item_id` (of any type); rows in time order.

    Raises:
        SessionsFileError: If the file is not there, not Parquet, or its columns are not such.
    """
    if not path.is_file():
        raise SessionsFileError(path=path, found="there is no such file", expected=EXPECTED)
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SessionsFileError(path=path, found=f"not Parquet ({error})", expected=EXPECTED) from None
    _check(path, table)
    codes = {name: table.column(name).combine_chunks() for name in COLUMNS}
    periods = codes["period"].to_numpy(zero_copy_only=False)
    sessions, items = (
        codes[name].dictionary_encode().indices.to_numpy(zero_copy_only=False) for name in ("session_id", "item_id")
    )
    return group(periods.astype(np.int64), sessions.astype(np.int64), items.astype(np.int64))


def group(periods: Ints, sessions: Ints, items: Ints) -> Periods:
    """Return the periods of clicks in time order; a session that goes on in the next period is another one there.

    >>> both = group(np.array([7, 7, 7, 8]), np.array([1, 2, 1, 1]), np.array([30, 10, 20, 30]))
    >>> [part.items.tolist() for part in both.sessions], both.known
    ([[2, 1, 3], [1]], (3, 3))
    """
    order = np.argsort(periods, kind="stable")
    periods, sessions, items = periods[order], sessions[order], items[order]
    _, first, codes = np.unique(items, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(1, len(first) + 1)
    items = numbers[codes]
    parts, known, most = [], [], 0
    for period in np.unique(periods):
        inside = periods == period
        parts.append(_in_order(sessions[inside], items[inside]))
        most = max(most, int(items[inside].max()))
        known.append(most)
    return Periods(tuple(parts), tuple(known))


def _in_order(sessions: Ints, items: Ints) -> Sessions:
    """Return clicks in time order as sessions in the order of their last click."""
    _, codes = np.unique(sessions, return_inverse=True)
    last = np.zeros(codes.max() + 1, np.int64)
    last[codes] = np.arange(len(codes))  # the last assignment stays
    ended = last[codes]
    order = np.argsort(ended, kind="stable")
    _, lengths = np.unique(ended, return_counts=True)
    return Sessions(items[order], np.concatenate([[0], np.cumsum(lengths)]))


def _check(path: Path, table: pa.Table) -> None:
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise SessionsFileError(path=path, found=f"no column {', '.join(missing)}", expected=EXPECTED)
    if not pa.types.is_integer(table.schema.field("period").type):
        kind = table.schema.field("period").type
        raise SessionsFileError(path=path, found=f"column period is of type {kind}", expected="whole numbers")
    for name in ("session_id", "item_id"):
        kind = table.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise SessionsFileError(path=path, found=f"column {name} is of type {kind}", expected="numbers or strings")
    if empty := [name for name in COLUMNS if table.column(name).null_count]:
        raise SessionsFileError(path=path, found=f"column {', '.join(empty)} has empty cells", expected="none")
    if not len(table):
        raise SessionsFileError(path=path, found="no rows", expected="clicks of at least two periods")
    if len(table.column("period").unique()) < 2:
        raise SessionsFileError(path=path, found="one period", expected="at least two: one to learn, one to test")
