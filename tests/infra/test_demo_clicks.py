"""Click rates of the two groups, with known answers."""

import numpy as np
import pytest

from infra.demo.clicks import clicks_per_reason, compare_groups, rate_over_time
from infra.demo.shop import Exposure


def exposure(
    visitor: int,
    *,
    is_control: bool,
    clicks: int,
    visit: int = 1,
    at_ms: int = 0,
    shown: int = 10,
    reasons: tuple[str, ...] = (),
) -> Exposure:
    return Exposure(
        visitor=visitor,
        is_control=is_control,
        visit=visit,
        at_ms=at_ms,
        shown=shown,
        clicks=clicks,
        model_version=None,
        reasons=reasons,
    )


def draw(rng: np.random.Generator, *, visitors: int, rate: float, is_control: bool, first: int = 0) -> list[Exposure]:
    return [
        exposure(first + visitor, is_control=is_control, clicks=int(rng.binomial(10, rate)))
        for visitor in range(visitors)
        for _ in range(5)
    ]


def test_rates_and_lift_are_the_plain_ratios() -> None:
    test = compare_groups(
        [
            exposure(0, is_control=False, clicks=3),
            exposure(1, is_control=False, clicks=1),
            exposure(2, is_control=True, clicks=1),
            exposure(3, is_control=True, clicks=1),
        ],
        seed=0,
    )
    assert test is not None
    assert test.learned.value == pytest.approx(0.2)
    assert test.control.value == pytest.approx(0.1)
    assert test.lift.value == pytest.approx(1.0)
    assert (test.control.low, test.control.high) == pytest.approx((0.1, 0.1))
    assert (test.learned.low, test.learned.high) == pytest.approx((0.1, 0.3))
    assert test.visitors == (2, 2)
    assert test.shown == (20, 20)


def test_first_visits_do_not_count_in_either_group() -> None:
    counted = [exposure(0, is_control=False, clicks=2), exposure(1, is_control=True, clicks=1)]
    first = [exposure(0, is_control=False, clicks=10, visit=0), exposure(1, is_control=True, clicks=10, visit=0)]
    assert compare_groups(counted + first, seed=0) == compare_groups(counted, seed=0)


@pytest.mark.parametrize("lonely", [False, True])
def test_a_group_that_is_missing_leaves_nothing_to_compare(lonely: bool) -> None:
    assert compare_groups([exposure(0, is_control=lonely, clicks=1)], seed=0) is None


def test_the_interval_covers_the_true_lift_about_nineteen_times_in_twenty() -> None:
    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        shown = draw(rng, visitors=80, rate=0.12, is_control=False)
        shown += draw(rng, visitors=80, rate=0.10, is_control=True, first=1_000)
        test = compare_groups(shown, seed=trial)
        assert test is not None
        lift = test.lift
        covered += lift.low <= 0.2 <= lift.high
    assert 52 <= covered <= 60


def test_without_a_difference_the_interval_seldom_excludes_zero() -> None:
    excluded = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        shown = draw(rng, visitors=80, rate=0.1, is_control=False)
        shown += draw(rng, visitors=80, rate=0.1, is_control=True, first=1_000)
        test = compare_groups(shown, seed=trial)
        assert test is not None
        lift = test.lift
        excluded += not lift.low < 0 < lift.high
    assert excluded <= 6


def test_rates_over_time_fall_into_their_buckets() -> None:
    shown = [
        exposure(0, is_control=False, clicks=1, at_ms=0),
        exposure(0, is_control=False, clicks=3, at_ms=99),
        exposure(0, is_control=False, clicks=5, at_ms=100),
        exposure(0, is_control=True, clicks=9, at_ms=50),
        exposure(0, is_control=False, clicks=9, at_ms=300),  # past the last edge
    ]
    rates = rate_over_time(shown, edges_ms=[0, 100, 200, 300], is_control=False)
    assert rates == [(50, pytest.approx(0.2)), (150, pytest.approx(0.5)), (250, None)]


def test_clicks_are_counted_by_the_reason_of_their_place() -> None:
    shown = [
        exposure(0, is_control=False, clicks=2, reasons=("repeat", "shared_model")),
        exposure(1, is_control=False, clicks=1, reasons=("shared_model",)),
    ]
    assert clicks_per_reason(shown) == {"shared_model": 2, "repeat": 1}
