"""Regret: how much the mixture lost, in log loss, against the best single expert in hindsight."""

from collections.abc import Mapping
from typing import Any


class Regret:
    """Log losses of the mixture and of each whole expert on the same interactions, and the difference that matters.

    Only interactions that every expert of the mixture scored are added, so the sums compare. A regret below zero says
    that the mixture did better than any of its experts alone could have.

    Args:
        mixture: Which of the names is the mixture.

    Source: Herbster & Warmuth, "Tracking the Best Expert", Machine Learning 32, 1998: the loss of the best expert as
    yardstick; of each window on its own (which may be another expert every time), and of all interactions together.

    >>> regret = Regret()
    >>> regret.add({"mixture": 1.0, "fast_memory": 1.5, "shared_model": 2.0})
    >>> regret.add({"mixture": 1.0, "fast_memory": 1.0, "shared_model": 0.0})
    >>> regret.window(), regret.total()
    (0.0, 0.0)
    """

    def __init__(self, mixture: str = "mixture") -> None:
        self.mixture = mixture
        self.count = 0
        self.total_count = 0
        self._window: dict[str, float] = {}
        self._total: dict[str, float] = {}

    def add(self, losses: Mapping[str, float]) -> None:
        """Add one interaction's log losses (nats), by expert, the mixture's among them."""
        for name, loss in losses.items():
            self._window[name] = self._window.get(name, 0.0) + loss
            self._total[name] = self._total.get(name, 0.0) + loss
        self.count += 1
        self.total_count += 1

    def window(self) -> float:
        """Return the regret per interaction since the window began, in nats; 0 if there were none."""
        return self._regret(self._window, self.count)

    def total(self) -> float:
        """Return the regret per interaction since the first, in nats; 0 if there were none."""
        return self._regret(self._total, self.total_count)

    def close_window(self) -> None:
        """Begin another window."""
        self._window, self.count = {}, 0

    def _regret(self, sums: Mapping[str, float], count: int) -> float:
        rivals = [value for name, value in sums.items() if name != self.mixture]
        return (sums[self.mixture] - min(rivals)) / count if rivals and count else 0.0

    def get_state(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "count": self.count,
            "total_count": self.total_count,
            "window": dict(self._window),
            "total": dict(self._total),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described."""
        self.count, self.total_count = state["count"], state["total_count"]
        self._window, self._total = dict(state["window"]), dict(state["total"])
