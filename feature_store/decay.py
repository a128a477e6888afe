"""Exponentially decayed counters: a value and the time it is valid at, O(1) per event, no window to expire.

A counter holds, per half-life, sum over events of 2 ** -((last - t) / half_life), where `last` is the newest event's
time. An event older than `last` adds its own decayed share, so the order of arrival does not matter but for rounding.

A *block* is one event type's counters in a flat `array("d")`: one value per half-life, then the last time in ms
(exact in a double until the year 287396). Blocks of all types lie side by side, which is also how Feast stores them.

Source: Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009, section 3 (exponential decay).
"""

from array import array
from math import isfinite
from typing import TypeAlias

from feature_store.event_types import EVENT_TYPES

Doubles: TypeAlias = "array[float]"  # array("d"); the class can be subscripted from Python 3.12 on
Integers: TypeAlias = "array[int]"  # array("q")

HOUR_MS = 3_600_000
HALF_LIVES_MS = (HOUR_MS, 24 * HOUR_MS, 14 * 24 * HOUR_MS)
HALF_LIFE_NAMES = ("1h", "1d", "14d")
BLOCK = len(HALF_LIVES_MS) + 1
LAST = BLOCK - 1  # where in a block the last time is
SIZE = len(EVENT_TYPES) * BLOCK

_HOURLY, _DAILY, _FORTNIGHTLY = (1.0 / half_life_ms for half_life_ms in HALF_LIVES_MS)


def empty() -> Doubles:
    """Make the counters of someone never seen: every block all zero.

    >>> len(empty()) == SIZE
    True
    """
    return array("d", bytes(8 * SIZE))


def add(values: Doubles, start: int, time_ms: int) -> None:
    """Count one event in the block that begins at `start`; events may come out of order.

    Args:
        values: Flat blocks, changed in place.
        start: Index of the block's first value, `code * BLOCK`.
        time_ms: When the event happened.

    >>> values = empty()
    >>> add(values, 0, 10 * HOUR_MS); add(values, 0, 11 * HOUR_MS); values[0]
    1.5
    >>> add(values, 0, 9 * HOUR_MS); values[0], values[LAST] == 11 * HOUR_MS
    (1.75, True)
    """
    if values[start] == 0.0:
        values[start] = values[start + 1] = values[start + 2] = 1.0
        values[start + 3] = time_ms
        return
    gap_ms = time_ms - values[start + 3]
    if gap_ms > 0.0:
        values[start] = values[start] * 2.0 ** (-gap_ms * _HOURLY) + 1.0
        values[start + 1] = values[start + 1] * 2.0 ** (-gap_ms * _DAILY) + 1.0
        values[start + 2] = values[start + 2] * 2.0 ** (-gap_ms * _FORTNIGHTLY) + 1.0
        values[start + 3] = time_ms
    else:
        values[start] += 2.0 ** (gap_ms * _HOURLY)
        values[start + 1] += 2.0 ** (gap_ms * _DAILY)
        values[start + 2] += 2.0 ** (gap_ms * _FORTNIGHTLY)


def merge(values: Doubles, other: Doubles) -> None:
    """Add the counters `other` into `values`, block by block; the result is as if one had counted both streams.

    >>> a, b = empty(), empty()
    >>> add(a, 0, 11 * HOUR_MS); add(b, 0, 10 * HOUR_MS); merge(a, b); a[0]
    1.5
    """
    for start in range(0, len(values), BLOCK):
        if other[start] == 0.0:
            continue
        if values[start] == 0.0:
            values[start : start + BLOCK] = other[start : start + BLOCK]
            continue
        last_ms = max(values[start + LAST], other[start + LAST])
        for index, half_life_ms in enumerate(HALF_LIVES_MS):
            mine = at(values[start + index], values[start + LAST], last_ms, half_life_ms)
            values[start + index] = mine + at(other[start + index], other[start + LAST], last_ms, half_life_ms)
        values[start + LAST] = last_ms


def mend(values: Doubles) -> None:
    """Empty the blocks that hold what no counting gives, NaN or infinity; they would stay so for ever.

    >>> values = empty(); add(values, 0, 5); values[BLOCK] = float("nan"); mend(values)
    >>> list(values[: 2 * BLOCK])
    [1.0, 1.0, 1.0, 5.0, 0.0, 0.0, 0.0, 0.0]
    """
    for start in range(0, len(values), BLOCK):
        if not all(map(isfinite, values[start : start + BLOCK])):
            values[start : start + BLOCK] = array("d", bytes(8 * BLOCK))


def at(value: float, last_ms: float, now_ms: float, half_life_ms: float) -> float:
    """Give what a counter is worth at `now_ms`; before `last_ms` it is worth what it is at `last_ms`.

    >>> at(2.0, 0, HOUR_MS, HOUR_MS), at(2.0, HOUR_MS, 0, HOUR_MS)
    (1.0, 2.0)
    """
    return value * float(2.0 ** (-max(now_ms - last_ms, 0.0) / half_life_ms))
