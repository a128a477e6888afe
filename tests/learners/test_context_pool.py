"""The mixture's pool: what situations share is learned in all of them, and what tells them apart in each."""

import numpy as np
import pytest

from learners.mixture.context_pool import SURFACES, ContextPool, Situation
from learners.mixture.pool import PoolConfig, log_softmax, softmax

ITEMS = 40
NOBODY = np.zeros(0, np.int64)
YOUNG = np.arange(30, ITEMS)
SEARCH = SURFACES.index("search")


def pool() -> ContextPool:
    return ContextPool(["a", "b"], start=[0.3, 0.3], contexts=2, config=PoolConfig())


def opinions(rng: np.random.Generator, target: int, *, right: int) -> np.ndarray:
    logits = rng.normal(size=(2, ITEMS)).astype(np.float32)
    logits[right, target] += 4
    return np.stack([log_softmax(row) for row in logits])


def teach(learned: ContextPool, situation: Situation, *, right: int, steps: int = 400, targets: int = ITEMS) -> None:
    rng = np.random.default_rng(0)
    for _ in range(steps):
        target = int(rng.integers(targets))
        said = opinions(rng, target, right=right)
        learned.learn(situation, said, softmax(learned.combine(situation, said)), target)


def test_a_surface_learns_who_is_right_there_and_leaves_the_other_surfaces_what_it_shares() -> None:
    learned = pool()
    for _ in range(5):
        teach(learned, Situation(0, 0, NOBODY), right=0, steps=100)
        teach(learned, Situation(0, SEARCH, NOBODY), right=1, steps=100)
    elsewhere, search = (learned.weights(Situation(0, surface, NOBODY)) for surface in (0, SEARCH))
    assert elsewhere.argmax() == 0
    assert search.argmax() == 1
    assert learned.weights(Situation(0, SURFACES.index("home"), NOBODY)).tolist() == elsewhere.tolist()


def test_people_of_another_history_keep_their_weights() -> None:
    learned = pool()
    teach(learned, Situation(1, 0, NOBODY), right=1)
    assert learned.weights(Situation(0, 0, NOBODY)).tolist() == [0.3, 0.3]


def test_young_items_that_nobody_turns_to_sink_and_the_others_keep_their_order() -> None:
    learned, situation = pool(), Situation(0, 0, YOUNG)
    teach(learned, situation, right=0, targets=30)
    flat = np.full((2, ITEMS), -np.log(ITEMS), np.float32)
    logits = learned.combine(situation, flat)
    assert logits[YOUNG].max() < logits[: YOUNG[0]].min() - 1
    assert np.ptp(logits[: YOUNG[0]]) == 0


def test_the_gradient_is_that_of_the_log_loss() -> None:
    """Each weight's first step is against the slope that differences measure."""
    rng = np.random.default_rng(3)
    situation, said, target = Situation(1, SEARCH, YOUNG), opinions(rng, 33, right=0), 33

    def loss(of: ContextPool) -> float:
        return -float(log_softmax(of.combine(situation, said).astype(np.float64))[target])

    learned = pool()
    learned.learn(situation, said, softmax(learned.combine(situation, said)), target)
    for table, row in (("people", 1), ("surfaces", SEARCH), ("ages", 1)):
        weights = getattr(learned, table).weights[row]
        for place in range(len(weights)):
            changed = pool()
            getattr(changed, table).weights[row, place] += 1e-3
            slope = (loss(changed) - loss(pool())) / 1e-3
            step = weights[place] - getattr(pool(), table).weights[row, place]
            assert step == pytest.approx(-0.2 * slope / np.sqrt(0.9995 + slope**2), abs=2e-3)


def test_a_replica_fed_with_rows_says_the_same_and_rows_of_an_older_learner_are_understood() -> None:
    learned, replica, older = pool(), pool(), pool()
    teach(learned, Situation(0, SEARCH, YOUNG), right=0)
    replica.set_rows(learned.rows())
    said = opinions(np.random.default_rng(1), 3, right=0)
    situation = Situation(0, SEARCH, YOUNG)
    assert replica.combine(situation, said).tolist() == learned.combine(situation, said).tolist()
    older.set_rows(learned.people.weights.tolist())
    assert older.people.weights.tolist() == learned.people.weights.tolist()
    assert not older.ages.weights.any()


def test_a_restored_pool_continues_as_the_original() -> None:
    learned, restored = pool(), pool()
    teach(learned, Situation(0, SEARCH, YOUNG), right=0, steps=50)
    restored.set_state(learned.get_state())
    for each in (learned, restored):
        teach(each, Situation(0, SEARCH, YOUNG), right=1, steps=20)
    assert restored.rows() == learned.rows()
    assert restored.steps == learned.steps == 70
