"""Alarms held against planted drift."""

from infra.demo.drifts import Alarm, PlantedDrift, match_drifts, plan_drifts

SHIFT = PlantedDrift(kind="taste_shift", start_ms=1_000, end_ms=1_000, story="")
ARRIVAL = PlantedDrift(kind="new_items", start_ms=2_000, end_ms=2_000, story="")


def alarm(
    at_ms: int,
    *,
    metric: str = "hit_rate_10:mixture",
    value: float = 0.1,
    baseline: float = 0.3,
    interactions: int | None = None,
    wall_s: float = 0.0,
) -> Alarm:
    return Alarm(
        metric=metric,
        event_time_ms=at_ms,
        interactions=at_ms if interactions is None else interactions,
        value=value,
        baseline=baseline,
        wall_s=wall_s,
    )


def test_the_first_alarm_in_the_window_gives_the_delay() -> None:
    verdict = match_drifts(
        [SHIFT],
        [alarm(1_400, interactions=180, wall_s=12.5), alarm(1_250, interactions=150, wall_s=11.0)],
        window_ms=500,
        started={"taste_shift": (100, 10.0)},
    )
    (catch,) = verdict.catches
    assert catch.is_caught
    assert catch.delay_ms == 250
    assert catch.delay_interactions == 50
    assert catch.delay_wall_s == 1.0
    assert len(catch.alarms) == 2


def test_an_alarm_before_its_drift_or_after_the_window_is_false() -> None:
    verdict = match_drifts([SHIFT], [alarm(999), alarm(1_500)], window_ms=500)
    assert verdict.caught == 0
    assert [found.event_time_ms for found in verdict.false_alarms] == [999, 1_500]
    assert verdict.catches[0].delay_ms is None
    assert verdict.catches[0].delay_interactions is None


def test_a_window_ends_where_the_next_drift_begins() -> None:
    verdict = match_drifts([SHIFT, ARRIVAL], [alarm(1_999), alarm(2_000)], window_ms=10_000)
    assert [[found.event_time_ms for found in catch.alarms] for catch in verdict.catches] == [[1_999], [2_000]]
    assert verdict.false_alarms == ()


def test_a_quality_figure_that_rises_is_a_gain_and_catches_nothing() -> None:
    verdict = match_drifts([SHIFT], [alarm(1_100, value=0.4, baseline=0.2)], window_ms=500)
    assert verdict.caught == 0
    assert verdict.false_alarms == ()
    assert len(verdict.gains) == 1


def test_a_loss_that_rises_is_drift_and_one_that_falls_is_a_gain() -> None:
    rising = alarm(1_100, metric="log_loss:mixture", value=4.2, baseline=4.0)
    falling = alarm(1_200, metric="log_loss:mixture", value=3.9, baseline=4.2)
    verdict = match_drifts([SHIFT], [rising, falling], window_ms=500)
    assert verdict.catches[0].alarms == (rising,)
    assert verdict.gains == (falling,)


def test_a_feature_that_rises_is_drift_all_the_same() -> None:
    verdict = match_drifts(
        [SHIFT], [alarm(1_100, metric="feature:unknown_item", value=0.4, baseline=0.0)], window_ms=500
    )
    assert verdict.caught == 1


def test_a_drift_that_was_never_reached_says_so() -> None:
    verdict = match_drifts([SHIFT, ARRIVAL], [], window_ms=500, started={"taste_shift": (5, 1.0)})
    assert [catch.is_planted for catch in verdict.catches] == [True, False]


def test_planned_drifts_lie_in_order_inside_the_span() -> None:
    drifts = plan_drifts(start_ms=10_000, span_ms=1_000)
    starts = [drift.start_ms for drift in drifts]
    assert starts == sorted(starts)
    assert all(10_000 < drift.start_ms <= drift.end_ms < 11_000 for drift in drifts)
