"""The predecessor in the shadow: after a swap it goes on scoring, and comes back if it would have done better."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowConfig:
    """When to roll back.

    Args:
        interactions: Interactions that the predecessor goes on scoring after a swap; 0: no shadow.
        least: Pairs needed before any decision.
        sigmas: Standard errors by which the predecessor must be better.
        alarm_sigmas: The same once a drift alarm has been raised since the swap.
    """

    interactions: int = 2_000
    least: int = 300
    sigmas: float = 3.0
    alarm_sigmas: float = 2.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """Why the predecessor should serve again.

    Args:
        version: To go back to.
        reason: One sentence.
        evidence: The figures, JSON-able.
    """

    version: int
    reason: str
    evidence: dict[str, float]


class PairedShadow:
    """Compare successor and predecessor on the same interactions, so that what hurts both decides nothing.

    Args:
        predecessor: Version in the shadow.
        config: See `ShadowConfig`.

    >>> shadow = PairedShadow(predecessor=3, config=ShadowConfig(least=10))
    >>> for step in range(20):
    ...     shadow.add(successor=0.0, predecessor=float(step % 4 > 0))
    >>> shadow.verdict().version
    3
    """

    def __init__(self, *, predecessor: int, config: ShadowConfig) -> None:
        self.predecessor, self.config = predecessor, config
        self.pairs = 0
        self.alarmed = False
        self._sums = [0.0, 0.0]
        self._difference = 0.0
        self._squares = 0.0

    @property
    def over(self) -> bool:
        """Whether the predecessor has scored long enough."""
        return self.pairs >= self.config.interactions

    def add(self, *, successor: float, predecessor: float) -> None:
        """Add the gains (NDCG@10) of both on one interaction."""
        difference = successor - predecessor
        self.pairs += 1
        self._sums[0] += successor
        self._sums[1] += predecessor
        self._difference += difference
        self._squares += difference * difference

    def alarm(self) -> None:
        """Remember a drift alarm: a smaller advantage of the predecessor now suffices."""
        self.alarmed = True

    def verdict(self) -> Rollback | None:
        """Return why to roll back, or None."""
        if self.pairs < self.config.least:
            return None
        mean = self._difference / self.pairs
        variance = max(0.0, self._squares / self.pairs - mean * mean)
        error = math.sqrt(variance / self.pairs)
        sigmas = self.config.alarm_sigmas if self.alarmed else self.config.sigmas
        if mean >= 0 or mean + sigmas * error >= 0:
            return None
        successor, predecessor = (total / self.pairs for total in self._sums)
        cause = "drift alarm, and the predecessor is better" if self.alarmed else "the predecessor is better"
        reason = f"{cause}: ndcg_10 {predecessor:.4f} against {successor:.4f} on the same {self.pairs} interactions"
        evidence = {"successor": successor, "predecessor": predecessor, "pairs": float(self.pairs), "error": error}
        return Rollback(self.predecessor, reason, {**evidence, "alarmed": float(self.alarmed)})

    def get_state(self) -> dict[str, Any]:
        return {
            "predecessor": self.predecessor,
            "pairs": self.pairs,
            "alarmed": self.alarmed,
            "sums": self._sums,
            "difference": self._difference,
            "squares": self._squares,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.predecessor, self.pairs, self.alarmed = state["predecessor"], state["pairs"], state["alarmed"]
        self._sums = list(state["sums"])
        self._difference, self._squares = state["difference"], state["squares"]
