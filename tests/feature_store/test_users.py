import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.event_types import EVENT_TYPES, HISTORY_TYPES
from feature_store.users import AFFINITY_NAMES, NEVER_MS, SESSION_EVENTS, SESSION_START_MS, UserState

MINUTE_MS = 60_000

events = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(EVENT_TYPES), st.sampled_from("abc")), max_size=80)


@given(events)
def test_the_history_is_the_newest_by_time_then_arrival(sequence):
    user = UserState(history_length=5)
    for arrival, (time_ms, event_type, item_id) in enumerate(sequence):
        user.apply(f"{item_id}{arrival}", event_type, time_ms)
    kept = [
        (f"{item_id}{arrival}", time_ms, event_type)
        for arrival, (time_ms, event_type, item_id) in enumerate(sequence)
        if event_type in HISTORY_TYPES
    ]
    assert user.history() == sorted(kept, key=lambda entry: entry[1])[-5:]


@given(events)
def test_lifetime_counts_and_the_last_event_are_a_plain_recount(sequence):
    user = UserState()
    for time_ms, event_type, item_id in sequence:
        user.apply(item_id, event_type, time_ms)
    for event_type in EVENT_TYPES:
        assert user.count_of(event_type) == sum(1 for _, other, _ in sequence if other == event_type)
    assert user.last_event_ms == max((time_ms for time_ms, _, _ in sequence), default=NEVER_MS)
    assert user.events == len(sequence)


def test_custom_types_count_as_other_and_stay_in_the_history():
    user = UserState()
    user.apply("a", "wishlist.add", 1)
    assert user.count_of("other") == 1
    assert user.history() == [("a", 1, "other")]


def test_a_session_ends_after_half_an_hour_of_silence():
    user = UserState()
    for minute in (0, 10, 39, 70, 71):
        user.apply("a", "view", minute * MINUTE_MS)
    assert user.counts[SESSION_START_MS] == 70 * MINUTE_MS
    assert user.counts[SESSION_EVENTS] == 2


def test_an_event_that_came_late_can_begin_the_session_but_not_an_older_one():
    user = UserState()
    user.apply("a", "view", 100 * MINUTE_MS)
    user.apply("b", "view", 80 * MINUTE_MS)
    user.apply("c", "view", 20 * MINUTE_MS)
    assert user.counts[SESSION_START_MS] == 80 * MINUTE_MS
    assert user.counts[SESSION_EVENTS] == 2


def test_affinities_are_bounded_and_keep_the_strongest():
    user = UserState()
    user.apply("a", "purchase", 0, "Shoes", "Acme")
    for number in range(100):
        user.apply("b", "view", number, f"Category {number}", None)
    assert len(user.affinity) == AFFINITY_NAMES
    assert {"category:Shoes", "brand:Acme"} <= set(user.affinity)


def test_affinities_decay_with_time_and_ignore_what_was_only_shown():
    fortnight_ms = 14 * 24 * 60 * MINUTE_MS
    user = UserState()
    user.apply("a", "view", 0, "Shoes", None)
    user.apply("a", "impression", fortnight_ms, "Shoes", None)
    user.apply("a", "view", fortnight_ms, "Shoes", None)
    assert user.affinity == {"category:Shoes": [pytest.approx(1.5), fortnight_ms]}


def test_the_same_events_in_the_same_order_give_the_same_state():
    def state():
        rng = random.Random(3)
        user = UserState()
        for _ in range(300):
            user.apply(
                f"i{rng.randrange(9)}", rng.choice(EVENT_TYPES), rng.randrange(10**8), f"c{rng.randrange(60)}", None
            )
        return user.counts, user.decayed, user.items, user.moments, user.affinity

    assert state() == state()


def test_times_before_1970_are_times():
    user = UserState()
    user.apply("a", "view", -5_000)
    user.apply("b", "view", -9_000)
    assert user.history() == [("b", -9_000, "view"), ("a", -5_000, "view")]
