"""The layers between encoder and answer; each choice is one class, chosen by its name."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from learners.tasks.config import HeadConfig


class AttentionPooling(nn.Module):
    """Weigh each token's state by what it says itself; begins as the mean.

    Args:
        width: D.

    >>> states, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
    >>> AttentionPooling(1)(states, mask).tolist()
    [[2.0]]

    Source: Yang et al., "Hierarchical Attention Networks", NAACL 2016, equation 6, without its hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.query.weight)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] from states [B, L, D] and mask [B, L]."""
        weights = self.query(states)[..., 0].masked_fill(~mask, -torch.inf).softmax(dim=1)
        pooled: Tensor = (weights[:, None] @ states)[:, 0]
        return pooled


class MeanPooling(nn.Module):
    """The mean over tokens, [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] from states [B, L, D] and mask [B, L]."""
        counted = mask[..., None].float()
        return (states * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


class MaxPooling(nn.Module):
    """The largest number over tokens, [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] from states [B, L, D] and mask [B, L]."""
        return states.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


class FirstPooling(nn.Module):
    """The first token's state, [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        del width

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] from states [B, L, D]."""
        del mask
        return states[:, 0]


def mlp(width: int, outputs: int, config: HeadConfig) -> nn.Sequential:
    """Return normalisation, hidden layers and an output layer that begins at zero."""
    layers: list[nn.Module] = [nn.LayerNorm(width)]
    for _ in range(config.layers):
        layers += [nn.Linear(width, config.hidden), nn.GELU(), nn.Dropout(config.dropout)]
        width = config.hidden
    return nn.Sequential(*layers, _zero(nn.Linear(width, outputs)))


def linear(width: int, outputs: int, config: HeadConfig) -> nn.Sequential:
    """Return normalisation and an output layer that begins at zero."""
    return nn.Sequential(nn.LayerNorm(width), nn.Dropout(config.dropout), _zero(nn.Linear(width, outputs)))


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def together(left: Tensor, right: Tensor) -> Tensor:
    """Return what a head reads of two vectors [B, D]: both, their distance and their product, [B, 4 D].

    Source: Conneau et al., "Supervised Learning of Universal Sentence Representations", EMNLP 2017, section 3.1.
    """
    return torch.cat([left, right, (left - right).abs(), left * right], dim=-1)


POOLING_LAYERS: Mapping[str, Callable[[int], nn.Module]] = {
    "attention": AttentionPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "first": FirstPooling,
}
HEAD_LAYERS: Mapping[str, Callable[[int, int, HeadConfig], nn.Module]] = {"mlp": mlp, "linear": linear}
