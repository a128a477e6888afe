"""Drift: caught when it is there, not when it is not, and never silenced by a bad number."""

import math
from itertools import pairwise

import numpy as np
import pytest

from learners.interactions import Observation
from learners.quality.drift import DriftConfig, DriftMonitor
from learners.quality.watch import Watch


def feed(monitor: DriftMonitor, values: np.ndarray, *, worse: str = "either", start: int = 0) -> list[int]:
    """Return where alarms were raised."""
    alarms = []
    for step, value in enumerate(values.tolist(), start=start):
        event = monitor.update("figure", value, event_time_ms=step, interactions=step, worse=worse)  # type: ignore[arg-type]
        if event is not None and event.level == "alarm":
            alarms.append(step)
    return alarms


def visits(rng: np.random.Generator, rate: float, count: int) -> np.ndarray:
    """Hits that come in visits of sixteen alike: what a shop's log looks like, and what fools a plain detector."""
    chances = np.repeat(np.clip(rate + rng.normal(0, 0.1, count // 16 + 1), 0, 1), 16)[:count]
    return (rng.random(count) < chances).astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_a_fall_of_quality_is_caught_and_steadiness_is_not_drift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([visits(rng, 0.3, 8_000), visits(rng, 0.15, 4_000)])
    alarms = feed(DriftMonitor(DriftConfig()), values, worse="lower")
    assert alarms
    assert 8_000 <= alarms[0] < 10_000


def test_getting_better_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([visits(rng, 0.15, 6_000), visits(rng, 0.4, 6_000)])
    assert not feed(DriftMonitor(DriftConfig()), values, worse="lower")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_counted_and_blinds_nothing(bad: float) -> None:
    rng, monitor = np.random.default_rng(1), DriftMonitor(DriftConfig())
    values = np.concatenate([visits(rng, 0.4, 5_000), [bad], visits(rng, 0.1, 4_000)])
    assert feed(monitor, values)
    assert monitor.not_finite == 1
    assert all(math.isfinite(event.value) for event in monitor.drain())


def test_an_alarm_is_followed_by_silence() -> None:
    rng, config = np.random.default_rng(2), DriftConfig(cooldown=5_000)
    values = np.concatenate([visits(rng, rate, 2_000) for rate in (0.5, 0.1, 0.6, 0.05, 0.5, 0.1)])
    alarms = feed(DriftMonitor(config), values)
    assert alarms
    assert all(later - earlier >= 5_000 for earlier, later in pairwise(alarms))


def test_figures_are_reported_now_and_then() -> None:
    monitor = DriftMonitor(DriftConfig(report_every=100))
    feed(monitor, np.full(1_000, 0.25))
    reports = monitor.drain()
    assert [event.level for event in reports] == ["value"] * 10
    assert reports[-1].value == pytest.approx(0.25)
    assert monitor.drain() == []


def test_the_number_of_figures_is_bounded() -> None:
    monitor = DriftMonitor(DriftConfig(), most=2)
    for name in ("a", "b", "c", "c"):
        monitor.update(name, 1.0, event_time_ms=0, interactions=0)
    assert monitor.unwatched == 2


def test_a_restored_monitor_raises_the_same_alarms() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([visits(rng, 0.4, 4_000), visits(rng, 0.1, 4_000)])
    whole, first, second = (DriftMonitor(DriftConfig()) for _ in range(3))
    expected = feed(whole, values)
    before = feed(first, values[:4_321])
    second.set_state(first.get_state())
    assert before + feed(second, values[4_321:], start=4_321) == expected
    assert second.drain() == whole.drain()
    assert second.get_state() == whole.get_state()


def test_a_rise_of_prices_and_a_rush_of_strangers_are_seen() -> None:
    rng, watch = np.random.default_rng(4), Watch(DriftConfig())
    alarms = []
    for step in range(8_000):
        changed = step >= 5_000
        seen = Observation(
            user_id="u",
            item_id="i",
            event_type="view",
            event_time_ms=step,
            price=float(rng.lognormal(2.5 if changed else 1.0)),
        )
        alarm = watch.features(
            seen, gap_ms=60_000, new_item=False, history_length=int(rng.random() > 0.3 * changed), interactions=step
        )
        if alarm is not None:
            alarms.append((alarm.metric, step))
    assert {name for name, _ in alarms} >= {"feature:price_log"}
    assert min(step for _, step in alarms) >= 5_000
