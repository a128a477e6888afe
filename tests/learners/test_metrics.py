"""Prequential metrics: known ranks give known figures, in windows and in total."""

import numpy as np
import pytest

from learners.quality.metrics import MISSED, PrequentialMetrics, gains_of, rank_of


def add(metrics: PrequentialMetrics, ranks: dict[str, int], *, shown: tuple[int, ...] = ()) -> None:
    metrics.add(ranks, shown=list(shown), items=11, model_version=2, event_time_ms=7)


def figures(metrics: PrequentialMetrics) -> dict[tuple[str, str], float]:
    return {(value.metric, value.expert): value.value for value in metrics.drain()}


@pytest.mark.parametrize(
    ("rank", "gains"),
    [(1, (1, 1, 1)), (3, (1, 0.5, 1 / 3)), (10, (1, 1 / np.log2(11), 0.1)), (11, (0, 0, 1 / 11)), (MISSED, (0, 0, 0))],
)
def test_a_rank_is_worth_what_the_textbook_says(rank: int, gains: tuple[float, ...]) -> None:
    assert gains_of(rank) == pytest.approx(gains)


def test_equal_scores_are_ranked_as_they_are_served_the_lower_index_first() -> None:
    scores = np.array([5, 7, 5, 5], np.float32)
    assert [rank_of(scores, item) for item in range(4)] == [2, 1, 3, 4]


def test_windows_start_anew_and_totals_do_not() -> None:
    metrics = PrequentialMetrics(window=2)
    for rank in (1, 1, 50, 50):
        add(metrics, {"mixture": rank})
    first, second = (value for value in metrics.drain() if value.metric == "hit_rate_10")
    assert (first.value, second.value) == (1, 0)
    assert (first.total_value, second.total_value) == (1, 0.5)
    assert (second.count, second.total_count, second.interactions, second.model_version) == (2, 4, 4, 2)


def test_an_expert_that_joins_late_is_judged_on_what_it_scored() -> None:
    metrics = PrequentialMetrics(window=2)
    add(metrics, {"mixture": 50})
    add(metrics, {"mixture": 1, "shared_model": 1})
    assert figures(metrics)["hit_rate_10", "shared_model"] == 1
    assert metrics.counts() == {"mixture": 2, "shared_model": 1}


def test_coverage_is_the_share_of_the_catalogue_that_was_shown() -> None:
    metrics = PrequentialMetrics(window=2)
    for shown in ((1, 2), (2, 3), (1, 2), (1, 2)):
        add(metrics, {"mixture": 1}, shown=shown)
    coverage = [(value.value, value.total_value) for value in metrics.drain() if value.metric == "coverage"]
    assert coverage == [(0.3, 0.3), (0.2, 0.3)]


def test_restored_metrics_continue_in_the_middle_of_a_window() -> None:
    whole, first, second = (PrequentialMetrics(window=3) for _ in range(3))
    for step in range(8):
        add(whole, {"mixture": step + 1}, shown=(step,))
        add(first if step < 4 else second, {"mixture": step + 1}, shown=(step,))
        if step == 3:
            second.set_state(first.get_state())
    assert second.drain() == whole.drain()
    assert second.totals() == whole.totals()
