"""Histories: ordered by event time, bounded in length and in people, forgetful on request."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learners.histories import Histories
from learners.interactions import EVENT_TYPES, code_of

RETURN = code_of("return")


def test_only_target_interactions_are_interests_but_all_take_their_place() -> None:
    histories = Histories(length=3, max_users=5)
    for item, code in [(1, 0), (2, RETURN), (3, 1), (4, RETURN)]:
        histories.append("ann", item, item, code)
    assert histories.past("ann").items.tolist() == [3]


def test_the_person_quiet_longest_goes_first() -> None:
    histories = Histories(length=3, max_users=2)
    for user in ("ann", "bob", "ann", "cat"):
        histories.append(user, 1, 1, 0)
    assert ("ann" in histories, "bob" in histories, "cat" in histories) == (True, False, True)


def test_forgetting_up_to_a_time_keeps_what_came_later() -> None:
    histories = Histories()
    for time_ms in (10, 20, 30):
        histories.append("ann", time_ms, time_ms, 0)
    assert histories.forget("ann", until_ms=20) == 2
    assert histories.past("ann").items.tolist() == [30]
    assert histories.forget("ann", until_ms=30) == 1
    assert "ann" not in histories
    assert histories.forget("nobody", until_ms=30) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, len(EVENT_TYPES) - 1)), max_size=60)
)
def test_histories_are_what_sorting_the_log_gives(log: list[tuple[str, int, int]]) -> None:
    histories = Histories(length=100)
    for item, (user, time_ms, code) in enumerate(log, start=1):
        histories.append(user, item, time_ms, code)
    for user in "abc":
        mine = sorted((time, item) for item, (who, time, code) in enumerate(log, start=1) if who == user and code < 4)
        past = histories.past(user)
        assert list(zip(past.times_ms.tolist(), past.items.tolist(), strict=True)) == mine


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=40))
def test_restored_histories_are_the_same_people_in_the_same_order(log: list[tuple[str, int]]) -> None:
    histories, again = Histories(length=4, max_users=2), Histories(length=4, max_users=2)
    for item, (user, time_ms) in enumerate(log, start=1):
        histories.append(user, item, time_ms, 0)
    again.set_state(histories.get_state())
    for each in (histories, again):
        each.append("new", 1, 1, 0)
    for user in "abc":
        assert np.array_equal(again.past(user).items, histories.past(user).items)
