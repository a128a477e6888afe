"""What the learner watches for drift: every expert's quality, and how the interactions themselves are distributed."""

import math
from typing import Any

from learners.interactions import TARGET_TYPES, Interaction
from learners.quality.drift import DriftConfig, DriftEvent, DriftMonitor

_GAINS = "hit_rate_10"
_WATCHED_EXPERTS = ("mixture", "shared_model", "fast_memory")
_ONLY_RISING = ("feature:new_item_share", "feature:new_user_share")  # a young system meets fewer strangers every day
_TYPES = tuple(sorted(TARGET_TYPES))


class Watch:
    """Feed the detectors; say which alarms mean that rankings got worse.

    Args:
        config: See `DriftConfig`.
    """

    def __init__(self, config: DriftConfig) -> None:
        self.monitor = DriftMonitor(config)

    def quality(
        self, gains: dict[str, tuple[float, float, float]], log_loss: float, *, event_time_ms: int, interactions: int
    ) -> DriftEvent | None:
        """Watch one scored interaction; returns the first alarm, if quality fell."""
        when = {"event_time_ms": event_time_ms, "interactions": interactions}
        raised: DriftEvent | None = None
        for expert in _WATCHED_EXPERTS:
            if expert in gains:
                event = self.monitor.update(f"{_GAINS}:{expert}", gains[expert][0], worse="lower", **when)
                raised = raised or event
        event = self.monitor.update("log_loss:mixture", log_loss, worse="higher", **when)
        raised = raised or event
        return raised if raised is not None and raised.level == "alarm" else None

    def features(
        self, interaction: Interaction, *, gap_ms: int | None, new_item: bool, history_length: int, interactions: int
    ) -> DriftEvent | None:
        """Watch how one target interaction is distributed; returns the first alarm."""
        values = {f"feature:share_{name}": float(interaction.event_type == name) for name in _TYPES}
        values["feature:new_item_share"] = float(new_item)
        values["feature:new_user_share"] = float(history_length == 0)
        if gap_ms is not None:
            values["feature:event_gap_log_s"] = math.log1p(max(0, gap_ms) / 1_000)
        if interaction.price is not None and interaction.price >= 0:
            values["feature:price_log"] = math.log1p(interaction.price)
        raised: DriftEvent | None = None
        for name, value in values.items():
            event = self.monitor.update(
                name,
                value,
                event_time_ms=interaction.event_time_ms,
                interactions=interactions,
                worse="higher" if name in _ONLY_RISING else "either",
            )
            if event is not None and event.level == "alarm":
                raised = raised or event
        return raised

    def get_state(self) -> dict[str, Any]:
        return self.monitor.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.monitor.set_state(state)
