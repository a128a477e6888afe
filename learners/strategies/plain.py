"""The strategies that others are measured against: no rounds, the newest alone, the whole past."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learners.replay.buffers import Archive, ReplayBuffer
from learners.strategies.strategy import Indexes, Mask, Material, Strategy


@dataclass(frozen=True, kw_only=True)
class Naive(Strategy):
    """Fine-tune on what is new alone: fast, and it forgets.

    Source: McCloskey & Cohen, "Catastrophic Interference in Connectionist Networks", 1989, who found what it does.
    """


@dataclass(frozen=True, kw_only=True)
class NoRounds(Strategy):
    """Never train: fast memory alone ranks.

    Source: none; it shows what the rounds are worth.
    """

    trains: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(Strategy):
    """Fine-tune on the newest interactions, learned before or not; what left the window is forgotten.

    Args:
        interactions: Length of the window; at least 1.

    Source: Matuszyk et al., "Forgetting techniques for stream-based matrix factorization in recommender systems",
    Knowledge and Information Systems 55, 2018, "instance-based forgetting".
    """

    interactions: int = 16_000

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return the window."""
        del capacity
        return Archive(length=length, most=self.interactions, rng=rng)

    def material(
        self, tokens: Indexes, mask: Mask, buffer: ReplayBuffer, *, rows: int, before: float = float("inf")
    ) -> Material:
        """Return everything in the window, what is new among it; what the gate judges by stays out."""
        del rows
        if not isinstance(buffer, Archive):
            message = f"buffer is a {type(buffer).__name__}; expected an Archive"
            raise TypeError(message)
        whole = buffer.rows(before=before)
        return Material(*whole) if len(whole[0]) else Material(tokens, mask)


@dataclass(frozen=True, kw_only=True)
class FullRetraining(SlidingWindow):
    """Train from random weights on everything so far, every round: the yardstick.

    Cost grows with the square of the log and memory with the log: it is for comparison, not for a running shop.

    Source: Mi et al., "ADER", RecSys 2020, where it is called Joint.
    """

    from_scratch: ClassVar[bool] = True

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return what keeps everything."""
        del capacity
        return Archive(length=length, most=None, rng=rng)
