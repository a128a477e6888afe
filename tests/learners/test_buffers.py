"""The archive keeps the stream as it was, as far back as it may."""

import numpy as np

from learners.replay.buffers import Archive, stored_in


def archive(*, most: int | None = None) -> Archive:
    kept = Archive(length=3, most=most, rng=np.random.default_rng(0))
    for arrival, (user, item) in enumerate([("ann", 1), ("bob", 2), ("ann", 3), ("ann", 4), ("bob", 5)], start=1):
        kept.add(user, [], item, time_ms=10 * arrival, band=0, arrival=arrival)
    return kept


def test_every_interaction_is_a_target_once_behind_what_its_person_did_before() -> None:
    tokens, mask = archive().rows()
    assert tokens.tolist() == [[0, 1, 3, 4], [0, 0, 2, 5]]
    assert mask.sum() == 5  # the first of each person is one too: it teaches what people without a history want


def test_what_the_gate_judges_by_stays_out() -> None:
    tokens, _ = archive().rows(before=4)
    assert tokens.tolist() == [[0, 0, 1, 3], [0, 0, 0, 2]]


def test_a_window_lets_go_of_what_is_old() -> None:
    kept = archive(most=3)
    assert len(kept) == 3
    assert kept.rows()[0].tolist() == [[0, 0, 3, 4], [0, 0, 0, 5]]


def test_the_forgotten_leave_no_gap() -> None:
    kept = archive()
    assert kept.forget("ann", until_ms=30) == 2
    assert kept.rows()[0].tolist() == [[0, 0, 2, 5], [0, 0, 0, 4]]
    assert kept.user_ids() == {"ann", "bob"}


def test_what_is_stored_can_be_handed_to_another_buffer() -> None:
    found = [
        (each.user_id, each.history, each.item_index, each.time_ms)
        for each in stored_in(archive().get_state(), length=3)
    ]
    assert found[0] == ("ann", [], 1, 10)
    assert found[3] == ("ann", [1, 3], 4, 40)
    assert found[4] == ("bob", [2], 5, 50)
