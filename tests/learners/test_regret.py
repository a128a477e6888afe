"""Regret: known losses give known regrets, per window and in total."""

import pytest

from learners.mixture.regret import Regret
from learners.quality.metrics import PrequentialMetrics


def test_a_mixture_that_follows_the_worse_expert_regrets_the_difference() -> None:
    regret = Regret()
    for _ in range(4):
        regret.add({"mixture": 3.0, "fast_memory": 3.0, "shared_model": 1.0})
    assert regret.total() == pytest.approx(2.0)


def test_each_window_is_held_against_its_own_best_expert_and_the_total_against_one() -> None:
    regret = Regret()
    regret.add({"mixture": 1.0, "fast_memory": 0.0, "shared_model": 2.0})
    first = regret.window()
    regret.close_window()
    regret.add({"mixture": 1.0, "fast_memory": 2.0, "shared_model": 0.0})
    assert (first, regret.window(), regret.total()) == (1.0, 1.0, 0.0)


def test_nothing_scored_is_nothing_regretted() -> None:
    assert (Regret().window(), Regret().total()) == (0.0, 0.0)


def test_regret_is_reported_with_the_window_in_which_there_was_something_to_mix() -> None:
    metrics = PrequentialMetrics(window=1)
    for losses in (None, {"mixture": 0.5, "fast_memory": 1.0, "shared_model": 2.0}):
        metrics.add({"mixture": 1}, shown=[1], items=3, model_version=0, event_time_ms=0, losses=losses)
    found = [(value.value, value.count, value.interactions) for value in metrics.drain() if value.metric == "regret"]
    assert found == [(-0.5, 1, 2)]
    assert metrics.totals()["mixture"]["regret"] == -0.5
