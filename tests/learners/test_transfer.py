"""Forgetting and transfer, from matrices and releases whose answers are known."""

from typing import Any, cast

import numpy as np
import pytest

from learners.evaluation.scorecard import Case
from learners.evaluation.transfer import MOST_RELEASES, Transfer, ndcg, transfer
from learners.releases.release import LoadedRelease

NOBODY = np.zeros(0, np.int32)


class Favourite:
    """A release that always ranks one item first, then the others by their index."""

    def __init__(self, item: int, *, items: int = 21) -> None:
        self.item_ids = [str(index) for index in range(items)]
        self.item_matrix = -np.arange(items, dtype=np.float32)[:, None]
        self.item_matrix[item] = 1

    def encode_users(self, histories: list[Any]) -> Any:
        return np.ones((len(histories), 1), np.float32)


def favourite(item: int) -> LoadedRelease:
    return cast("LoadedRelease", Favourite(item))


def test_forgetting_and_transfer_follow_from_the_matrix() -> None:
    matrix = np.array([[0.5, 0.2, 0.1], [0.3, 0.6, 0.4]])
    known = Transfer(matrix, (10, 20, 30), 0.05)
    assert known.forgetting == pytest.approx(0.2)
    assert known.backward == pytest.approx(-0.2)
    assert known.forward == pytest.approx((0.2 + 0.4) / 2 - 0.05)


def test_one_release_has_nothing_to_forget() -> None:
    known = Transfer(np.array([[0.5, 0.2]]), (10, 20), 0.0)
    assert np.isnan(known.forgetting)
    assert known.forward == pytest.approx(0.2)


def test_releases_are_ranked_on_the_stretches_that_end_where_they_were_trained() -> None:
    cases = [Case(number, NOBODY, 7 if number <= 10 else 12) for number in range(1, 31)]
    releases = [(10, lambda: favourite(7)), (20, lambda: favourite(12))]
    known = transfer(releases, cases, interactions=30, seed=0)
    assert known is not None
    assert known.bounds == (10, 20, 30)
    assert known.matrix[0, 0] == known.matrix[1, 1] == known.matrix[1, 2] == 1
    assert known.matrix[0, 1] == 0  # item 12 is thirteenth
    assert 0 < known.matrix[1, 0] < 1  # item 7 is eighth
    assert known.forgetting == pytest.approx(1 - 1 / np.log2(9))
    assert known.chance == pytest.approx(float((1 / np.log2(np.arange(2, 12))).sum()) / 20)


def test_an_item_that_a_release_does_not_know_is_not_found() -> None:
    assert ndcg(favourite(3), [Case(1, NOBODY, 99), Case(2, NOBODY, 3)]) == 0.5


def test_of_many_releases_a_dozen_are_ranked_the_last_among_them() -> None:
    loaded: list[int] = []

    def load(number: int) -> LoadedRelease:
        loaded.append(number)
        return favourite(1)

    releases = [(number, lambda number=number: load(number)) for number in range(1, 41)]
    cases = [Case(number, NOBODY, 1) for number in range(1, 50)]
    known = transfer(releases, cases, interactions=50, seed=0)
    assert known is not None
    assert len(known.matrix) == len(loaded) == MOST_RELEASES
    assert (loaded[0], loaded[-1]) == (1, 40)


def test_without_releases_there_is_nothing_to_say() -> None:
    assert transfer([], [], interactions=5, seed=0) is None
