"""The shop without Kafka tells the truth about itself."""

import numpy as np
import torch

from infra.demo.offline import simulate


def test_what_happens_agrees_with_the_chances_that_are_told() -> None:
    log = simulate(visits=1_500, seed=3, visitors=100, nouns=4)
    visits, truth = log.visits, log.truth
    clicked = visits.clicked.numpy()
    for happened, chance in (
        (clicked, truth.click),
        (visits.carted.numpy()[clicked], truth.cart[clicked]),
        (visits.bought.numpy()[clicked], truth.purchase[clicked]),
        (visits.buyer.numpy(), truth.buyer),
    ):
        noise = np.sqrt((chance * (1 - chance)).sum()) / chance.size
        assert abs(happened.mean() - chance.mean()) < 4 * noise
        assert 0 < chance.mean() < 1


def test_histories_hold_what_was_looked_at_before_and_grow() -> None:
    log = simulate(visits=600, seed=1, visitors=60, nouns=2, history_length=8)
    assert (log.visits.lengths[:10] == 0).sum() > 5  # nearly everybody is new
    assert (log.visits.lengths[-100:] == 8).float().mean() > 0.9
    real = log.visits.histories > 0
    assert torch.equal(real.sum(dim=1), log.visits.lengths)
    assert bool((log.visits.next_item > 0).all())
    assert not torch.from_numpy(log.catalogue.is_new)[log.visits.shown - 1].any()


def test_the_same_seed_is_the_same_shop_and_another_is_not() -> None:
    first, again, other = (simulate(visits=100, seed=seed, visitors=40, nouns=2) for seed in (0, 0, 1))
    assert torch.equal(first.visits.shown, again.visits.shown)
    assert torch.equal(first.visits.bought, again.visits.bought)
    assert not torch.equal(first.visits.shown, other.visits.shown)


def test_a_part_has_the_truth_of_its_visits() -> None:
    log = simulate(visits=50, seed=0, visitors=40, nouns=2)
    visits, truth = log.part(10, 30)
    assert torch.equal(visits.shown, log.visits.shown[10:30])
    np.testing.assert_array_equal(truth.click, log.truth.click[10:30])
