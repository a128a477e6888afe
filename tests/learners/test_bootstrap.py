"""Intervals over users: as wide as people differ, and narrow where strategies differ alike for all of them."""

import numpy as np
import pytest

from learners.evaluation.bootstrap import Ratio, differences, intervals


def ratio(rng: np.random.Generator, users: int, *, chance: float) -> Ratio:
    events = rng.integers(1, 20, size=users).astype(float)
    return Ratio(rng.binomial(events.astype(int), chance).astype(float), events)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for seed in range(120):
        found = intervals({"hit": ratio(rng, 150, chance=0.3)}, seed=seed, resamples=200)["hit"]
        held.append(found.low <= 0.3 <= found.high)
    assert 0.88 <= np.mean(held) <= 1.0


def test_a_difference_that_all_people_share_is_certain_though_people_differ() -> None:
    rng = np.random.default_rng(1)
    tops, bottoms = rng.random(80) * 10, np.full(80, 10.0)
    better, worse = {"x": Ratio(tops + 1, bottoms)}, {"x": Ratio(tops, bottoms)}
    apart, alone = differences(better, worse, seed=0)["x"], intervals(better, seed=0)["x"]
    assert apart.value == pytest.approx(0.1)
    assert apart.high - apart.low < 1e-9
    assert alone.high - alone.low > 0.05


def test_one_seed_draws_the_same_people() -> None:
    given = {"x": ratio(np.random.default_rng(2), 40, chance=0.5)}
    assert intervals(given, seed=3) == intervals(given, seed=3) != intervals(given, seed=4)


def test_nothing_to_divide_by_is_not_a_number() -> None:
    found = intervals({"x": Ratio(np.zeros(3), np.zeros(3))}, seed=0)["x"]
    assert np.isnan([found.value, found.low, found.high]).all()
