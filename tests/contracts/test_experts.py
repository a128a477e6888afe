"""Checks that every expert passes: the released model, fast memory as a whole, and each of its components."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from learners.fast_memory import COMPONENTS
from learners.histories import EMPTY_PAST, Past
from learners.items.catalog import Catalog
from learners.mixture.pool import log_softmax
from learners.model import ModelConfig, SharedModel
from learners.ranking.ranker import Ranker
from learners.releases.release import LoadedRelease

ITEMS = 30
SHAPE = ModelConfig(width=16, layers=1, heads=2, history_length=8, text_width=4, spare_rows=8)
HOUR_MS = 3_600_000
EXPERTS = ("mixture", "shared_model", "fast_memory", *COMPONENTS)


def release() -> LoadedRelease:
    """A model with random weights that knows all items but the last."""
    torch.manual_seed(3)
    vectors = torch.randn(ITEMS, SHAPE.width)
    vectors[0] = 0
    ids = ["", *(f"item-{number}" for number in range(1, ITEMS))]
    return LoadedRelease(
        version=1, item_ids=ids, model=SharedModel(SHAPE, capacity=64), item_matrix=vectors, manifest={}
    )


@pytest.fixture
def ranker() -> Ranker:
    """A ranker that has learned a hundred interactions of a few people, and serves a release."""
    catalog = Catalog()
    for number in range(1, ITEMS + 1):
        catalog.upsert(f"item-{number}")
    ranker = Ranker(catalog=catalog)
    rng, pasts = np.random.default_rng(0), dict.fromkeys(range(5), EMPTY_PAST)
    for step in range(100):
        user, item, now_ms = step % 5, int(rng.integers(1, ITEMS)), step * HOUR_MS
        opinion = ranker.memory.opine(pasts[user], now_ms, items=ITEMS + 1, barred=np.array([0]))
        ranker.memory.observe(item, pasts[user], now_ms, opinion)
        past = pasts[user]
        pasts[user] = Past(np.append(past.items, item), np.append(past.times_ms, now_ms))
    ranker.adopt(release())
    return ranker


@pytest.fixture(params=EXPERTS)
def scores_of(request: pytest.FixtureRequest, ranker: Ranker) -> Callable[[Past, int], np.ndarray]:
    """One expert's scores of every item for a history."""

    def score(past: Past, now_ms: int) -> np.ndarray:
        assert ranker.shared is not None
        items = len(ranker.catalog)
        row = ranker.shared.logits([past])[0]
        judgement = ranker.judge(past, now_ms, items=items, barred=ranker.barred(items), shared_logits=row)
        if request.param == "mixture":
            return judgement.logits
        if request.param == "shared_model":
            assert judgement.shared is not None
            return judgement.shared
        if request.param == "fast_memory":
            return judgement.opinion.log_probabilities
        return judgement.opinion.features[COMPONENTS[request.param]]

    return score


HISTORIES = {
    "a stranger": EMPTY_PAST,
    "one interaction": Past(np.array([3]), np.array([99 * HOUR_MS])),
    "one item again and again": Past(np.full(20, 7), np.arange(80, 100) * HOUR_MS),
    "an item nobody has learned about": Past(np.array([ITEMS]), np.array([99 * HOUR_MS])),
    "more than the model reads": Past(np.arange(1, 26), np.arange(75, 100) * HOUR_MS),
    "times in the future": Past(np.array([3, 4]), np.array([500 * HOUR_MS, 600 * HOUR_MS])),
}


@pytest.mark.parametrize("past", HISTORIES.values(), ids=list(HISTORIES))
def test_every_item_gets_a_finite_score_for_every_history(
    scores_of: Callable[[Past, int], np.ndarray], past: Past
) -> None:
    scores = scores_of(past, 100 * HOUR_MS)
    assert scores.shape == (ITEMS + 1,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("past", HISTORIES.values(), ids=list(HISTORIES))
def test_scoring_twice_says_the_same_and_teaches_nothing(
    scores_of: Callable[[Past, int], np.ndarray], ranker: Ranker, past: Past
) -> None:
    before = ranker.memory.get_state()
    first, second = scores_of(past, 100 * HOUR_MS), scores_of(past, 100 * HOUR_MS)
    assert first.tobytes() == second.tobytes()
    after = ranker.memory.get_state()
    assert before["pool"]["weights"].tobytes() == after["pool"]["weights"].tobytes()
    assert before["repeats"]["exposed"].tobytes() == after["repeats"]["exposed"].tobytes()
    assert before["covisitation"]["neighbours"].tobytes() == after["covisitation"]["neighbours"].tobytes()


@pytest.mark.parametrize("expert", ["mixture", "shared_model", "fast_memory"])
def test_probabilities_sum_to_one_and_the_delisted_have_none(ranker: Ranker, expert: str) -> None:
    ranker.catalog.delist("item-5")
    items, past = len(ranker.catalog), HISTORIES["more than the model reads"]
    assert ranker.shared is not None
    row = ranker.shared.logits([past])[0]
    judgement = ranker.judge(past, 100 * HOUR_MS, items=items, barred=ranker.barred(items), shared_logits=row)
    logs = {
        "mixture": log_softmax(judgement.logits),
        "shared_model": judgement.shared,
        "fast_memory": judgement.opinion.log_probabilities,
    }[expert]
    assert logs is not None
    probabilities = np.exp(logs)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities[[0, 5]].tolist() == [0, 0]
