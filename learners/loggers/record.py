"""What a logger is told of a round, and the logger that says nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from learners.model import SharedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One finished round.

    Args:
        key: Its name, safe in paths.
        interactions: Target interactions of the stream when it began: where it stands among rounds.
        outcome: `passed` or `refused`.
        strategy: The strategy's name.
        losses: Per batch.
        gradient_norms: Per optimizer step, before clipping.
        weight_norms: Of each part of the model, by name.
        metrics: The candidate's figures on the gate's windows, and `incumbent_...` of the incumbent's.
        item_vectors: Float32 [N, D], padding first.
        item_ids: `item_index` -> `item_id`, N of them.
    """

    key: str
    interactions: int
    outcome: str
    strategy: str
    losses: Sequence[float]
    gradient_norms: Sequence[float]
    weight_norms: Mapping[str, float]
    metrics: Mapping[str, float]
    item_vectors: npt.NDArray[np.float32]
    item_ids: Sequence[str]

    def scalars(self) -> dict[str, float]:
        """Return every figure that a round has one of, by a name with its group before a slash."""
        trained = {}
        if self.losses:  # a first round may leave what it started from as it is
            trained = {
                "round/first_loss": self.losses[0],
                "round/last_loss": self.losses[-1],
                "round/mean_gradient_norm": float(np.mean(self.gradient_norms)),
            }
        return {
            **trained,
            "round/passed": float(self.outcome == "passed"),
            **{f"weights/{name}": norm for name, norm in self.weight_norms.items()},
            **{f"gate/{name}": value for name, value in self.metrics.items()},
        }


class RoundLogger(Protocol):
    """Whoever wants to know of rounds."""

    def log(self, record: RoundRecord) -> None:
        """Write one round down, for good: when this returns, nothing is left to be flushed."""


class NoLogger:
    """Says nothing.

    Args:
        folder: Stays as it is.
    """

    def __init__(self, folder: Path) -> None:
        del folder

    def log(self, record: RoundRecord) -> None:
        """Say nothing."""
        del record


def weight_norms(model: SharedModel) -> dict[str, float]:
    """Return the norm of each part of a model: embeddings, projections, and every block.

    >>> from learners.model import ModelConfig
    >>> sorted(weight_norms(SharedModel(ModelConfig(width=8, text_width=4), capacity=4)))
    ['blocks.0', 'blocks.1', 'id_embedding', 'newcomer', 'norm', 'positions', 'text_projection']
    """
    squares: dict[str, float] = {}
    for name, value in model.named_parameters():
        first, second, *_ = [*name.split("."), ""]
        part = f"{first}.{second}" if first == "blocks" else first
        squares[part] = squares.get(part, 0.0) + float(torch.linalg.vector_norm(value.detach()) ** 2)
    return {part: total**0.5 for part, total in squares.items()}
