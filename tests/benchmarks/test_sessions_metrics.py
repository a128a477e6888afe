import numpy as np

from benchmarks.sessions.metrics import UNRANKED, Outcome, measure, ranks_of


def test_ties_count_against_us() -> None:
    scores = np.array([[1.0, 1.0, 1.0, 0.0]], np.float32)
    assert ranks_of(scores, np.array([0])).tolist() == [3]


def test_every_item_is_ranked_not_a_sample_of_them() -> None:
    scores = np.arange(1_000, dtype=np.float32)[None]
    assert ranks_of(scores, np.array([0])).tolist() == [1_000]


def test_recall_and_mrr_cut_at_their_place() -> None:
    found = measure(np.array([1, 2, 10, 11, 20, 21, UNRANKED, UNRANKED]))
    assert found["recall_20"] == 100 * 5 / 8
    assert found["recall_10"] == 100 * 3 / 8
    assert np.isclose(found["mrr_20"], 100 * (1 + 1 / 2 + 1 / 10 + 1 / 11 + 1 / 20) / 8)
    assert np.isclose(found["mrr_10"], 100 * (1 + 1 / 2 + 1 / 10) / 8)


def test_new_items_have_a_recall_of_their_own() -> None:
    outcome = Outcome(np.array([1, 30, 5]), np.array([False, True, True]))
    assert outcome.figures()["new_item_recall_20"] == 50.0
