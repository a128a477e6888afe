"""Triggers: a round is due by count, by time or by drift, and each begins to count anew after a round."""

from learners.rounds.triggers import TriggerConfig, Triggers


def triggers(**changes: object) -> Triggers:
    return Triggers(TriggerConfig(**({"interactions": 10, "drift_interactions": 3} | changes)))  # type: ignore[arg-type]


def add(to: Triggers, count: int) -> None:
    for _ in range(count):
        to.add()


def test_nothing_is_due_without_anything_new_however_long_it_takes() -> None:
    waiting = triggers(interval_ms=5)
    assert waiting.due(0) is None
    assert waiting.due(10**9) is None


def test_time_is_counted_from_the_last_round() -> None:
    waiting = triggers(interval_ms=100)
    waiting.due(1_000)
    add(waiting, 1)
    assert waiting.due(1_099) is None
    trigger = waiting.due(1_100)
    assert trigger is not None
    assert (trigger.kind, trigger.interactions, trigger.at_ms) == ("time", 1, 1_100)
    waiting.reset(1_100)
    add(waiting, 1)
    assert waiting.due(1_150) is None


def test_drift_makes_a_round_due_once_there_is_something_to_learn() -> None:
    waiting = triggers()
    waiting.alarm("hit_rate_10:mixture")
    add(waiting, 2)
    assert waiting.due(0) is None
    add(waiting, 1)
    trigger = waiting.due(0)
    assert trigger is not None
    assert (trigger.kind, trigger.detail) == ("drift", "hit_rate_10:mixture")
    waiting.reset(0)
    add(waiting, 5)
    assert waiting.due(0) is None


def test_drift_can_be_left_out() -> None:
    waiting = triggers(on_drift=False)
    waiting.alarm("hit_rate_10:mixture")
    add(waiting, 9)
    assert waiting.due(0) is None


def test_a_restored_trigger_remembers_what_is_new_but_not_the_clock() -> None:
    first, second = triggers(interval_ms=100), triggers(interval_ms=100)
    first.due(0)
    add(first, 9)
    first.alarm("x")
    second.set_state(first.get_state())
    trigger = second.due(10**9)
    assert trigger is not None
    assert trigger.kind == "drift"
    add(second, 1)
    again = second.due(10**9)
    assert again is not None
    assert again.kind == "count"
