"""Softmax losses over a whole catalogue on a CPU, chunk by chunk, each with its gradient in one go.

Scores [P, C] of a batch are tens of megabytes: written, read for the maximum, the sum, the loss and again for the
gradient, they keep a core waiting for memory. A chunk that fits into its cache is scored, turned into the loss and into
the gradient, and forgotten. The numbers are those of the plain loss, up to rounding; a second derivative is not given.

Source: Hsu et al., "Liger Kernel", 2024, section 3.2, which does the same on GPUs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_CHUNK_SCORES = 1 << 18  # a megabyte of float32: half of a usual second-level cache


def cross_entropy(users: Tensor, columns: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sum of the cross-entropies of the true columns.

    Args:
        users: [P, D].
        columns: [C, D].
        targets: Which column is true, [P].
        weight: Of each target, [P].

    >>> two = torch.eye(2)
    >>> round(cross_entropy(two, two, torch.tensor([0, 1]), torch.ones(2) / 2).item(), 4)  # log(1 + 1/e)
    0.3133
    """
    total: Tensor = _CrossEntropy.apply(users, columns, targets, weight)  # type: ignore[no-untyped-call]
    return total


def divergence(users: Tensor, columns: Tensor, teacher_users: Tensor, teacher_columns: Tensor) -> Tensor:
    """Return the sum over P of the KL divergence of the student's softmax from the teacher's, which learns nothing.

    Args:
        users: The student's [P, D].
        columns: The student's [C, D].
        teacher_users: The teacher's [P, E].
        teacher_columns: The teacher's [C, E].

    >>> two = torch.eye(2)
    >>> divergence(two, two, two, two).item()
    0.0
    """
    total: Tensor = _Divergence.apply(users, columns, teacher_users, teacher_columns)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, columns: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        users_gradient, columns_gradient = torch.empty_like(users), torch.zeros_like(columns)
        total = users.new_zeros(())
        for part, room in _chunks(len(users), len(columns), users):
            true, share = targets[part, None], weight[part, None]
            scores = torch.mm(users[part], columns.T, out=room)
            scores -= scores.amax(dim=1, keepdim=True)
            own = scores.gather(1, true)
            powers = scores.exp_()
            sums = powers.sum(dim=1, keepdim=True)
            total += (share * (sums.log() - own)).sum()
            gradient = powers.mul_(share / sums).scatter_add_(1, true, -share)
            torch.mm(gradient, columns, out=users_gradient[part])
            columns_gradient.addmm_(gradient.T, users[part])
        ctx.save_for_backward(users_gradient, columns_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users_gradient, columns_gradient = ctx.saved_tensors
        return gradient * users_gradient, gradient * columns_gradient, None, None


class _Divergence(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, columns: Tensor, teacher_users: Tensor, teacher_columns: Tensor) -> Tensor:
        users_gradient, columns_gradient = torch.empty_like(users), torch.zeros_like(columns)
        total = users.new_zeros(())
        for part, room in _chunks(len(users), len(columns), users):
            taught = teacher_users[part] @ teacher_columns.T
            taught -= taught.amax(dim=1, keepdim=True)
            scores = torch.mm(users[part], columns.T, out=room)
            scores -= scores.amax(dim=1, keepdim=True)
            apart = taught - scores
            wanted, powers = taught.exp_(), scores.exp_()
            wanted_sums, sums = wanted.sum(dim=1, keepdim=True), powers.sum(dim=1, keepdim=True)
            wanted /= wanted_sums
            total += (apart.mul_(wanted).sum(dim=1, keepdim=True) + sums.log() - wanted_sums.log()).sum()
            gradient = powers.div_(sums).sub_(wanted)
            torch.mm(gradient, columns, out=users_gradient[part])
            columns_gradient.addmm_(gradient.T, users[part])
        ctx.save_for_backward(users_gradient, columns_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users_gradient, columns_gradient = ctx.saved_tensors
        return gradient * users_gradient, gradient * columns_gradient, None, None


def _chunks(rows: int, columns: int, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the rows, and room for the scores of each."""
    size = max(1, min(rows, _CHUNK_SCORES // max(1, columns)))
    room = like.new_empty(size, columns)
    for start in range(0, rows, size):
        stop = min(rows, start + size)
        yield slice(start, stop), room[: stop - start]
