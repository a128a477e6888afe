"""What waits for a round: every interaction is learned once, and the gate's windows are held out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.pending import Pending, cut, to_arrays


def pending(*, length: int = 4, newest: int = 2, most: int = 1_000) -> Pending:
    return Pending(length=length, newest=newest, frozen=3, most=most, rng=np.random.default_rng(0))


def add(to: Pending, count: int, *, start: int = 0, users: int = 1) -> None:
    """Item = arrival + 1; histories are what came before for that user."""
    for arrival in range(start, start + count):
        history = list(range(arrival % users + 1, arrival + 1, users))
        to.add(f"user-{arrival % users}", history, arrival + 1, time_ms=arrival, arrival=arrival)


def targets(taken: tuple[np.ndarray, np.ndarray]) -> list[int]:
    tokens, mask = taken
    return sorted(tokens[:, 1:][mask].tolist())


@given(
    st.lists(st.integers(1, 99), max_size=12), st.lists(st.integers(1, 99), min_size=1, max_size=40), st.integers(1, 9)
)
def test_every_new_item_is_a_target_once_behind_its_true_predecessors(
    before: list[int], items: list[int], length: int
) -> None:
    rows = cut(before, items, length=length)
    learned: list[int] = []
    whole = before + items
    for row, count in rows:
        assert len(row) <= length + 1
        learned += row[-count:]
        end = len(before) + len(learned)
        assert row == whole[end - len(row) : end]
    assert learned == items
    tokens, mask = to_arrays(rows, length=length)
    assert mask.sum() == len(items)
    assert not (mask & (tokens[:, 1:] == 0)).any()


@pytest.mark.parametrize("users", [1, 3])
def test_the_newest_window_waits_for_the_next_round(users: int) -> None:
    waiting = pending()
    add(waiting, 10, users=users)
    assert targets(waiting.take()) == list(range(1, 9))
    waiting.done()
    add(waiting, 5, start=10, users=users)
    assert targets(waiting.take()) == list(range(9, 14))
    assert waiting.newest()[1].tolist() == [14, 15]


def test_what_a_failed_round_took_is_taken_again_in_order() -> None:
    waiting = pending()
    add(waiting, 10)
    waiting.take()
    add(waiting, 5, start=10)
    waiting.put_back()
    assert waiting.waiting == 15
    tokens, mask = waiting.take()
    assert targets((tokens, mask)) == list(range(1, 14))


def test_a_snapshot_while_a_round_runs_holds_what_the_round_took() -> None:
    waiting, again = pending(), pending()
    add(waiting, 10)
    waiting.take()
    again.set_state(waiting.get_state())
    assert targets(again.take()) == list(range(1, 9))
    waiting.done()
    assert targets(waiting.take()) == []


def test_the_people_of_a_round_say_since_when_they_are_known_unless_nobody_knows() -> None:
    waiting = pending()
    add(waiting, 10)
    assert waiting.people(most=5) == []
    waiting.take()
    (person,) = waiting.people(most=5)
    assert person.items == tuple(range(1, 9))[-waiting.length :]
    first = person.since_ms
    assert first is not None

    waiting.done()
    add(waiting, 5, start=10)
    waiting.take()
    (later,) = waiting.people(most=5)
    assert later.items[-1] == 13
    assert later.since_ms is None  # what came before is in the history, and when it happened is not kept


def test_waiting_is_bounded_and_the_first_people_go_first() -> None:
    waiting = pending(most=6)
    add(waiting, 12, users=4)
    assert waiting.waiting <= 6
    assert "user-3" in waiting.user_ids()


def test_the_forgotten_are_neither_learned_nor_judged_by() -> None:
    waiting = pending(newest=6)
    add(waiting, 12, users=2)
    waiting.freeze()
    assert waiting.forget("user-1", until_ms=10**9) == 6
    assert waiting.user_ids() == {"user-0"}
    assert all(target % 2 for target in waiting.newest()[1].tolist())
    assert all(target % 2 for target in waiting.frozen()[1].tolist())


def test_frozen_cases_are_drawn_from_all_earlier_windows() -> None:
    waiting = pending(newest=10)
    for start in range(0, 1_000, 10):
        add(waiting, 10, start=start)
        waiting.freeze()
    frozen = waiting.frozen()[1]
    assert len(frozen) == 3
    assert frozen.min() < 900
