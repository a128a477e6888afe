"""The online-weighted mixture: experts' opinions multiplied, each to a power learned from every interaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

HISTORY_BUCKETS = (1, 4, 16, 40)  # lower bounds of history lengths; below the first is a stranger


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How fast a pool learns.

    Args:
        learning_rate: eta of AdaGrad, above 0.
        memory: Share of the summed squared gradients that survives each step, so that old steps do not slow new ones,
            in (0, 1].
        share: Share of the way back to the starting weights taken each step, so that a weight that fell can rise again,
            in [0, 1).
    """

    learning_rate: float = 0.2
    memory: float = 0.9995
    share: float = 1e-5


class LogPool:
    """A logarithmic opinion pool: `p(item) ~ prod_k p_k(item) ** w_k`, its weights learned online, per context.

    Multiplying opinions lets an expert veto (an item bought a minute ago), which averaging does not. The weights follow
    the gradient of the log loss, `E_p[log p_k] - log p_k(target)`, by AdaGrad with forgetting, and a small share of the
    way back to the start, so that they can track.

    Args:
        names: The experts, K of them.
        start: Weights to begin with, K of them.
        contexts: C, situations with weights of their own.
        config: See `PoolConfig`.

    Source: Hinton, "Products of Experts", ICANN 1999; Herbster & Warmuth, "Tracking the Best Expert", Machine Learning
    32, 1998 (the share); Duchi et al., "Adaptive Subgradient Methods", JMLR 12, 2011 (the step).

    >>> pool = LogPool(["wise", "noisy"], start=[0.5, 0.5], contexts=1, config=PoolConfig(learning_rate=0.3))
    >>> opinions = np.log(np.array([[0.1, 0.9], [0.9, 0.1]], np.float32))
    >>> for _ in range(50):
    ...     pool.learn(0, opinions, softmax(pool.combine(0, opinions)), 1)
    >>> bool(pool.weights[0, 0] > pool.weights[0, 1])
    True
    """

    def __init__(self, names: Sequence[str], *, start: Sequence[float], contexts: int, config: PoolConfig) -> None:
        self.names = tuple(names)
        self.config = config
        self.start = np.array(start, np.float64)
        self.weights = np.tile(self.start, (contexts, 1))  # [C, K]
        self.squares = np.ones_like(self.weights)
        self.steps = 0

    def combine(self, context: int, opinions: Floats) -> Floats:
        """Return unnormalised log-probabilities [N] from opinions [K, N]."""
        logits: Floats = self.weights[context].astype(np.float32) @ opinions
        return logits

    def learn(self, context: int, opinions: Floats, probabilities: Floats, target: int) -> None:
        """Take one step after the truth is known.

        Args:
            context: Where the opinions were given.
            opinions: What the experts said, [K, N].
            probabilities: What the pool said, [N], summing to 1.
            target: The item that came.
        """
        self.step(context, (opinions @ probabilities - opinions[:, target]).astype(np.float64))

    def step(self, context: int, gradient: npt.NDArray[np.float64]) -> None:
        """Move one context's weights against a gradient [K] of the log loss."""
        self.steps += 1
        squares, weights = self.squares[context], self.weights[context]
        squares *= self.config.memory
        squares += gradient * gradient
        weights -= self.config.learning_rate * gradient / np.sqrt(squares)
        weights += self.config.share * (self.start - weights)

    def get_state(self) -> dict[str, Any]:
        return {"weights": self.weights.copy(), "squares": self.squares.copy(), "steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.weights = np.array(state["weights"], np.float64)
        self.squares = np.array(state["squares"], np.float64)
        self.steps = state["steps"]


def context_of(history_length: int) -> int:
    """Return the context of a history: how much is known of the person.

    >>> [context_of(length) for length in (0, 1, 3, 4, 50)]
    [0, 1, 1, 2, 4]
    """
    return sum(history_length >= bound for bound in HISTORY_BUCKETS)


CONTEXTS = len(HISTORY_BUCKETS) + 1


def softmax(logits: Floats) -> Floats:
    """Return probabilities [N] of logits [N].

    >>> softmax(np.array([0.0, 0.0], np.float32)).tolist()
    [0.5, 0.5]
    """
    powers = np.exp(logits - logits.max())
    probabilities: Floats = powers / powers.sum()
    return probabilities


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities [N] of logits [N].

    >>> log_softmax(np.array([0.0, 0.0], np.float32)).round(3).tolist() == [np.float32(-0.693)] * 2
    True
    """
    shifted = logits - logits.max()
    logs: Floats = shifted - np.log(np.exp(shifted).sum())
    return logs
