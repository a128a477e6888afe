import random
from array import array

import pytest

from feature_store import decay


def direct(times_ms, half_life_ms):
    last = max(times_ms)
    return sum(2.0 ** ((time_ms - last) / half_life_ms) for time_ms in times_ms)


def counted(times_ms):
    values = decay.empty()
    for time_ms in times_ms:
        decay.add(values, 0, time_ms)
    return values


def test_a_counter_equals_the_sum_over_its_events_in_any_order():
    rng = random.Random(1)
    times_ms = [1_700_000_000_000 + rng.randrange(40 * 24 * decay.HOUR_MS) for _ in range(500)]
    for order in (sorted(times_ms), times_ms, sorted(times_ms, reverse=True)):
        values = counted(order)
        assert values[decay.LAST] == max(times_ms)
        for index, half_life_ms in enumerate(decay.HALF_LIVES_MS):
            assert values[index] == pytest.approx(direct(times_ms, half_life_ms), rel=1e-12)


def test_merging_two_streams_equals_counting_both():
    rng = random.Random(2)
    times_ms = [rng.randrange(10**9) for _ in range(200)]
    merged = counted(times_ms[:70])
    decay.merge(merged, counted(times_ms[70:]))
    assert list(merged) == pytest.approx(list(counted(times_ms)), rel=1e-12)


def test_merging_with_nothing_changes_nothing():
    values = counted([5, 7])
    before = array("d", values)
    decay.merge(values, decay.empty())
    assert values == before
    empty = decay.empty()
    decay.merge(empty, values)
    assert empty == values


def test_years_of_silence_leave_one_and_not_an_overflow():
    values = counted([0, 10**15])
    assert list(values[: decay.BLOCK]) == [1.0, 1.0, 1.0, 1e15]
    values = counted([10**15, -(10**15)])
    assert list(values[: decay.BLOCK]) == [1.0, 1.0, 1.0, 1e15]
