"""Prequential quality: every prediction was made before its outcome was learned; per expert, window and in total."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.mixture.regret import Regret

Floats = npt.NDArray[np.float32]

TOP = 10
MEASURES = ("hit_rate_10", "ndcg_10", "mrr")
MISSED = 2**31  # the rank of an item that could not have been ranked


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One figure.

    Args:
        metric: `hit_rate_10`, `ndcg_10`, `mrr`, `coverage` or `regret`.
        expert: Whose.
        value: Over the window.
        count: Interactions in the window.
        total_value: Since the first interaction.
        total_count: Interactions since the first.
        model_version: Of the release that scored last; 0 for none.
        event_time_ms: Of the newest interaction in the window.
        interactions: Interactions scored so far.
    """

    metric: str
    expert: str
    value: float
    count: int
    total_value: float
    total_count: int
    model_version: int
    event_time_ms: int
    interactions: int


def rank_of(scores: Floats, target: int) -> int:
    """Return the target's place, 1 is best; among equal scores the lower index comes first, as when serving.

    >>> rank_of(np.array([0.1, 0.7, 0.7, 0.2], np.float32), 2)
    2
    """
    score = scores[target]
    better = np.count_nonzero(scores > score) + np.count_nonzero(scores[:target] == score)
    return int(better) + 1


def gains_of(rank: int) -> tuple[float, float, float]:
    """Return what a rank is worth in each of `MEASURES`.

    >>> gains_of(1), gains_of(11)[:2]
    ((1.0, 1.0, 1.0), (0.0, 0.0))
    """
    if rank == MISSED:
        return 0.0, 0.0, 0.0
    hit = rank <= TOP
    return float(hit), float(1 / np.log2(rank + 1)) if hit else 0.0, 1 / rank


class Sums:
    """Running sums of the measures of one expert, in total and since the window began."""

    __slots__ = ("count", "total", "total_count", "window")

    def __init__(self) -> None:
        self.window = [0.0] * len(MEASURES)
        self.total = [0.0] * len(MEASURES)
        self.count = 0
        self.total_count = 0

    def add(self, gains: tuple[float, float, float]) -> None:
        for place, gain in enumerate(gains):
            self.window[place] += gain
            self.total[place] += gain
        self.count += 1
        self.total_count += 1

    def close_window(self) -> None:
        self.window = [0.0] * len(MEASURES)
        self.count = 0


class PrequentialMetrics:
    """Hit rate, NDCG and reciprocal rank of every expert, and how much of the catalogue the mixture shows.

    Args:
        window: Interactions per reported window; at least 1.

    >>> metrics = PrequentialMetrics(window=2)
    >>> for rank in (1, 30):
    ...     _ = metrics.add({"mixture": rank}, shown=[rank], items=101, model_version=0, event_time_ms=0)
    >>> [(value.metric, round(value.value, 3)) for value in metrics.drain()]
    [('hit_rate_10', 0.5), ('ndcg_10', 0.5), ('mrr', 0.517), ('coverage', 0.02)]
    """

    def __init__(self, *, window: int = 1_000) -> None:
        self.window = window
        self.interactions = 0
        self._sums: dict[str, Sums] = {}
        self._shown: set[int] = set()
        self._ever_shown: set[int] = set()
        self._ready: list[MetricValue] = []
        self.regret = Regret()
        self._latest = (1, 0, 0)  # items, model_version, event_time_ms; needed by `close` alone

    def add(
        self,
        ranks: Mapping[str, int],
        *,
        shown: list[int],
        items: int,
        model_version: int,
        event_time_ms: int,
        losses: Mapping[str, float] | None = None,
    ) -> dict[str, tuple[float, float, float]]:
        """Add one interaction's ranks by expert; returns the gains by expert.

        Args:
            ranks: Place of the target, by expert.
            shown: The mixture's top items.
            items: N, padding included.
            model_version: Of the release that scored.
            event_time_ms: Of the interaction.
            losses: Log loss of the mixture and of each expert that it mixes, where there are several; see `Regret`.
        """
        self.interactions += 1
        if losses is not None:
            self.regret.add(losses)
        gains = {expert: gains_of(rank) for expert, rank in ranks.items()}
        for expert, its_gains in gains.items():
            sums = self._sums.get(expert)
            if sums is None:
                sums = self._sums[expert] = Sums()
            sums.add(its_gains)
        self._shown.update(shown)
        self._latest = items, model_version, event_time_ms
        if self.interactions % self.window == 0:
            self._close_window(*self._latest)
        return gains

    def close(self) -> None:
        """Report the window under way, short as it is: nothing more will come."""
        if self.interactions % self.window:
            self._close_window(*self._latest)

    def drain(self) -> list[MetricValue]:
        """Return, once, the figures of the windows that were completed."""
        ready, self._ready = self._ready, []
        return ready

    def totals(self) -> dict[str, dict[str, float]]:
        """Return every expert's measures since the first interaction, and the mixture's regret."""
        totals = {
            expert: {name: sums.total[place] / sums.total_count for place, name in enumerate(MEASURES)}
            for expert, sums in self._sums.items()
        }
        if self.regret.total_count:
            totals["mixture"]["regret"] = self.regret.total()
        return totals

    def counts(self) -> dict[str, int]:
        """Return how many interactions each expert was scored on."""
        return {expert: sums.total_count for expert, sums in self._sums.items()}

    def _close_window(self, items: int, model_version: int, event_time_ms: int) -> None:
        common = {"model_version": model_version, "event_time_ms": event_time_ms, "interactions": self.interactions}
        for expert, sums in self._sums.items():
            for place, name in enumerate(MEASURES if sums.count else ()):  # nothing happened: nothing to report
                self._ready.append(
                    MetricValue(
                        metric=name,
                        expert=expert,
                        value=sums.window[place] / sums.count,
                        count=sums.count,
                        total_value=sums.total[place] / sums.total_count,
                        total_count=sums.total_count,
                        **common,
                    )
                )
            sums.close_window()
        self._ever_shown |= self._shown
        self._ready.append(
            MetricValue(
                metric="coverage",
                expert="mixture",
                value=len(self._shown) / max(1, items - 1),
                count=self.interactions % self.window or self.window,
                total_value=len(self._ever_shown) / max(1, items - 1),
                total_count=self.interactions,
                **common,
            )
        )
        self._shown = set()
        if self.regret.count:
            self._ready.append(
                MetricValue(
                    metric="regret",
                    expert="mixture",
                    value=self.regret.window(),
                    count=self.regret.count,
                    total_value=self.regret.total(),
                    total_count=self.regret.total_count,
                    **common,
                )
            )
            self.regret.close_window()

    def get_state(self) -> dict[str, Any]:
        """Return everything, windows under way and figures not yet drained included."""
        return {
            "interactions": self.interactions,
            "sums": {
                name: [sums.window, sums.total, sums.count, sums.total_count] for name, sums in self._sums.items()
            },
            "regret": self.regret.get_state(),
            "shown": sorted(self._shown),
            "ever_shown": sorted(self._ever_shown),
            "ready": [[getattr(value, name) for name in MetricValue.__slots__] for value in self._ready],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.interactions = state["interactions"]
        self.regret.set_state(state["regret"])
        self._sums = {}
        for name, (window, total, count, total_count) in state["sums"].items():
            sums = self._sums[name] = Sums()
            sums.window, sums.total, sums.count, sums.total_count = list(window), list(total), count, total_count
        self._shown, self._ever_shown = set(state["shown"]), set(state["ever_shown"])
        self._ready = [MetricValue(*values) for values in state["ready"]]
