"""What lies between the trunk and the heads: how much the tasks share, and who decides it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learners.multitask.config import MultiTaskConfig


class SharedBottom(nn.Module):
    """One layer for all tasks.

    Args:
        width: Numbers in an input.
        tasks: How many heads follow.
        config: Its shape.

    Source: Caruana, "Multitask Learning", Machine Learning 28, 1997.
    """

    def __init__(self, width: int, *, tasks: int, config: MultiTaskConfig) -> None:
        super().__init__()
        self.tasks = tasks
        self.layer = nn.Linear(width, config.expert_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each head reads, [..., tasks, E], for inputs [..., width]."""
        hidden = F.gelu(self.layer(x))
        return hidden[..., None, :].expand(*hidden.shape[:-1], self.tasks, -1)


class MixtureOfExperts(nn.Module):
    """Experts that all tasks may ask; each task's gate weighs them for the input at hand. Arguments as above.

    Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD
    2018, equations 6 to 8.
    """

    def __init__(self, width: int, *, tasks: int, config: MultiTaskConfig) -> None:
        super().__init__()
        self.experts = Experts(width, count=config.experts, out=config.expert_width)
        self.gates = nn.ModuleList(nn.Linear(width, config.experts) for _ in range(tasks))

    def forward(self, x: Tensor) -> Tensor:
        """Return what each head reads, [..., tasks, E], for inputs [..., width]."""
        said = self.experts(x)  # [..., n, E]
        return torch.stack([weighed(said, gate(x)) for gate in self.gates], dim=-2)


class ProgressiveExtraction(nn.Module):
    """Shared experts beside each task's own, level upon level: what tasks disagree on need not pass what they share.

    Arguments as above.

    Source: Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020, equations 1 to 6.
    """

    def __init__(self, width: int, *, tasks: int, config: MultiTaskConfig) -> None:
        super().__init__()
        widths = [width, *[config.expert_width] * (config.levels - 1)]
        self.levels = nn.ModuleList(
            ExtractionLevel(
                level_width,
                tasks=tasks,
                shared=config.experts,
                out=config.expert_width,
                is_last=level == config.levels - 1,
            )
            for level, level_width in enumerate(widths)
        )
        self.tasks = tasks

    def forward(self, x: Tensor) -> Tensor:
        """Return what each head reads, [..., tasks, E], for inputs [..., width]."""
        read = [x] * (self.tasks + 1)  # one for each task, then the shared one
        for level in self.levels:
            read = level(read)
        return torch.stack(read[: self.tasks], dim=-2)


class ExtractionLevel(nn.Module):
    """One level: every task weighs its own expert and the shared ones, the shared part weighs all.

    Args:
        width: Numbers in an input.
        tasks: How many tasks.
        shared: How many shared experts.
        out: E.
        is_last: Whether nothing follows that would read the shared part.
    """

    def __init__(self, width: int, *, tasks: int, shared: int, out: int, is_last: bool) -> None:
        super().__init__()
        self.own = nn.ModuleList(Experts(width, count=1, out=out) for _ in range(tasks))
        self.shared = Experts(width, count=shared, out=out)
        self.gates = nn.ModuleList(nn.Linear(width, 1 + shared) for _ in range(tasks))
        self.shared_gate = None if is_last else nn.Linear(width, tasks + shared)

    def forward(self, read: list[Tensor]) -> list[Tensor]:
        """Return the next inputs of each task and of the shared part (zeros of no use after the last level)."""
        *tasks, common = read
        shared = self.shared(common)  # [..., shared, E]
        own = [experts(x) for experts, x in zip(self.own, tasks, strict=True)]  # each [..., 1, E]
        told = [
            weighed(torch.cat([mine, shared], dim=-2), gate(x))
            for mine, gate, x in zip(own, self.gates, tasks, strict=True)
        ]
        if self.shared_gate is None:
            return [*told, torch.zeros_like(told[0])]
        return [*told, weighed(torch.cat([*own, shared], dim=-2), self.shared_gate(common))]


class Experts(nn.Module):
    """Independent layers over the same input, computed as one."""

    def __init__(self, width: int, *, count: int, out: int) -> None:
        super().__init__()
        self.count = count
        self.layer = nn.Linear(width, count * out)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each says, [..., count, E]."""
        said: Tensor = F.gelu(self.layer(x)).unflatten(-1, (self.count, -1))
        return said


def weighed(said: Tensor, gate: Tensor) -> Tensor:
    """Return the gate's mean of what experts say.

    >>> weighed(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    return (gate.softmax(dim=-1)[..., None] * said).sum(dim=-2)


STRUCTURES: dict[str, type[SharedBottom] | type[MixtureOfExperts] | type[ProgressiveExtraction]] = {
    "shared": SharedBottom,
    "mmoe": MixtureOfExperts,
    "ple": ProgressiveExtraction,
}
