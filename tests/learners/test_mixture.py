"""The pool: it finds who is right, tracks when that changes, and keeps situations apart."""

import numpy as np
import pytest

from learners.mixture.pool import LogPool, PoolConfig, context_of, log_softmax, softmax

ITEMS = 50


def opinions(rng: np.random.Generator, target: int, *, right: int, experts: int = 3) -> np.ndarray:
    """Log-probabilities [K, N] where one expert expects the target and the others expect anything."""
    logits = rng.normal(size=(experts, ITEMS)).astype(np.float32)
    logits[right, target] += 4
    return np.stack([log_softmax(row) for row in logits])


def teach(pool: LogPool, steps: int, *, right: int, context: int = 0, seed: int = 0) -> float:
    """Return the mean log loss over the last half."""
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        target = int(rng.integers(ITEMS))
        said = opinions(rng, target, right=right)
        probabilities = softmax(pool.combine(context, said))
        losses.append(-float(np.log(probabilities[target])))
        pool.learn(context, said, probabilities, target)
    return float(np.mean(losses[steps // 2 :]))


def pool(**changes: float) -> LogPool:
    return LogPool(["a", "b", "c"], start=[0.3, 0.3, 0.3], contexts=2, config=PoolConfig(**changes))


def test_the_expert_that_is_right_gains_the_weight() -> None:
    learned = pool()
    teach(learned, 500, right=1)
    assert learned.weights[0].argmax() == 1
    assert learned.weights[0, 1] > 3 * np.abs(learned.weights[0, [0, 2]]).max()


def test_the_pool_follows_when_another_becomes_right() -> None:
    learned = pool()
    teach(learned, 1_000, right=0)
    teach(learned, 1_000, right=2, seed=1)
    assert learned.weights[0].argmax() == 2


def test_what_is_learned_in_one_situation_leaves_the_others_alone() -> None:
    learned = pool()
    teach(learned, 300, right=1, context=1)
    assert learned.weights[0].tolist() == [0.3, 0.3, 0.3]


def test_an_expert_can_veto() -> None:
    veto = LogPool(["likes", "forbids"], start=[1.0, 0.2], contexts=1, config=PoolConfig())
    said = np.zeros((2, 3), np.float32)
    said[0, 1], said[1, 1] = 2, -20
    assert veto.combine(0, said).argmin() == 1


def test_learning_lowers_the_loss_below_the_start() -> None:
    still, learned = pool(learning_rate=1e-9), pool()
    assert teach(learned, 800, right=1) < 0.8 * teach(still, 800, right=1)


def test_a_restored_pool_goes_on_identically() -> None:
    whole, first, second = pool(), pool(), pool()
    teach(whole, 50, right=1)
    teach(first, 50, right=1)
    second.set_state(first.get_state())
    for each in (whole, second):
        teach(each, 50, right=2, seed=9)
    assert second.weights.tobytes() == whole.weights.tobytes()


@pytest.mark.parametrize("shift", [0.0, 80.0, -1e6])
def test_softmax_stands_any_shift(shift: float) -> None:
    logits = np.array([1.0, 2.0, 3.0], np.float32) + np.float32(shift)
    assert softmax(logits).sum() == pytest.approx(1)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1, abs=1e-6)


def test_strangers_newcomers_and_regulars_are_different_situations() -> None:
    assert len({context_of(length) for length in (0, 1, 10, 20, 50)}) == 5
