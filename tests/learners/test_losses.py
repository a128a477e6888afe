"""Losses with known answers."""

import math

import torch
import torch.nn.functional as F

from learners.losses import distillation_loss, sample_columns, softmax_loss


def test_cross_entropy_of_uniform_scores_is_the_log_of_the_catalogue() -> None:
    loss = softmax_loss(torch.zeros(3, 4), torch.randn(10, 4), torch.tensor([0, 5, 9]), torch.ones(3))
    torch.testing.assert_close(loss, torch.tensor(math.log(10)))


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    users, columns, targets = torch.randn(2, 4), torch.randn(5, 4), torch.tensor([1, 2])
    doubled = softmax_loss(users[[0, 1, 1]], columns, targets[[0, 1, 1]], torch.ones(3))
    torch.testing.assert_close(softmax_loss(users, columns, targets, torch.tensor([1.0, 2.0])), doubled)


def test_distillation_is_nothing_for_equals_and_the_divergence_otherwise() -> None:
    users, columns = torch.randn(3, 4), torch.randn(6, 4)
    teacher_users, teacher_columns = torch.randn(3, 7), torch.randn(6, 7)
    torch.testing.assert_close(distillation_loss(users, columns, users, columns), torch.tensor(0.0))

    p = (teacher_users @ teacher_columns.T).softmax(dim=-1)
    q = (users @ columns.T).softmax(dim=-1)
    expected = (p * (p / q).log()).sum(dim=-1).mean()
    torch.testing.assert_close(distillation_loss(users, columns, teacher_users, teacher_columns), expected)


def test_every_target_is_among_the_sampled_columns() -> None:
    targets, pool = torch.tensor([900, 3, 3]), torch.arange(1, 1_000)
    columns, log_chance = sample_columns(targets, pool, size=50, generator=torch.Generator().manual_seed(0))
    assert torch.isin(targets, columns).all()
    assert (columns[1:] > columns[:-1]).all()
    assert len(columns) <= 52
    assert (log_chance <= 0).all()
    chance = dict(zip(columns.tolist(), log_chance.exp().tolist(), strict=True))
    assert chance[3] == chance[900] == 1
    assert abs(min(chance.values()) - (1 - (1 - 1 / 999) ** 50)) < 1e-6


def test_the_sampled_loss_is_close_to_the_full_one() -> None:
    torch.manual_seed(0)
    items, users = 0.5 * torch.randn(2_000, 16), torch.randn(400, 16)
    targets = torch.randint(1, 2_000, (400,))
    full = F.cross_entropy(users @ items.T, targets)
    generator, pool = torch.Generator().manual_seed(0), torch.arange(1, 2_000)
    sampled = []
    for _ in range(20):
        columns, log_chance = sample_columns(targets, pool, size=600, generator=generator)
        position = torch.searchsorted(columns, targets)
        sampled.append(softmax_loss(users, items[columns], position, torch.ones(400), log_chance=log_chance).item())
    assert abs(sum(sampled) / 20 - full.item()) < 0.05  # uncorrected it is 0.8 lower
