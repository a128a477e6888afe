"""Losses by chunks: the plain losses' numbers and gradients, whatever the sizes."""

import pytest
import torch
import torch.nn.functional as F

from learners.rounds import softmax_chunks
from learners.rounds.losses import distillation_loss, softmax_loss


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (700, 1_000), (30, 20_000)])
@pytest.mark.parametrize("chunk", [2, 1 << 18])
def test_cross_entropy_and_its_gradient_are_the_plain_ones(
    rows: int, columns: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax_chunks, "_CHUNK_SCORES", chunk)
    targets = torch.arange(rows) * 7 % columns
    weight = torch.rand(rows, generator=torch.Generator().manual_seed(3)) + 0.1
    results = []
    for chunked in (True, False):
        users, items = drawn(rows, 8, seed=0).requires_grad_(), drawn(columns, 8, seed=1).requires_grad_()
        if chunked:
            loss = softmax_loss(users, items, targets, weight)
        else:
            losses = F.cross_entropy(users @ items.T, targets, reduction="none")
            loss = (losses * weight).sum() / weight.sum()
        (2 * loss).backward()  # what is upstream counts
        results.append((loss.detach(), users.grad, items.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (700, 1_000)])
def test_divergence_and_its_gradient_are_the_plain_ones(rows: int, columns: int) -> None:
    taught, known = drawn(rows, 4, seed=2), drawn(columns, 4, seed=3)
    results = []
    for chunked in (True, False):
        users, items = drawn(rows, 8, seed=0).requires_grad_(), drawn(columns, 8, seed=1).requires_grad_()
        if chunked:
            loss = distillation_loss(users, items, taught, known)
        else:
            teacher, student = F.log_softmax(taught @ known.T, dim=-1), F.log_softmax(users @ items.T, dim=-1)
            loss = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        loss.backward()
        results.append((loss.detach(), users.grad, items.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)


def test_what_is_not_learned_from_takes_the_plain_way() -> None:
    users, items, targets = drawn(5, 4, seed=0), drawn(6, 4, seed=1), torch.tensor([0, 1, 2, 3, 4])
    plain = softmax_loss(users, items, targets, torch.ones(5))
    ours = softmax_chunks.cross_entropy(users, items, targets, torch.full((5,), 0.2))
    torch.testing.assert_close(plain, ours)


def test_a_score_that_is_not_finite_shows_in_the_loss() -> None:
    users, items = torch.full((2, 4), float("nan"), requires_grad=True), drawn(3, 4, seed=0)
    assert not torch.isfinite(softmax_loss(users, items, torch.tensor([0, 1]), torch.ones(2)))
