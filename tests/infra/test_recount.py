"""The recount must be right for reasons of its own: known answers, and no difference that it overlooks."""

from typing import Any

import pytest

from infra.recount import ITEM_FEATURES, USER_FEATURES, Comparison, Recount, compare, recount
from streams.eventlog import LoggedEvent

HOUR_MS = 3_600_000


def event(number: int, user: str, item: str, event_type: str, time_ms: int) -> LoggedEvent:
    return LoggedEvent(f"e{number}", user, item, event_type, time_ms, {})


LOG = [
    event(1, "ada", "mug", "view", 10 * HOUR_MS),
    event(2, "ada", "mug", "purchase", 12 * HOUR_MS),
    event(3, "bob", "mug", "view", 12 * HOUR_MS),
    event(4, "ada", "pot", "wishlist", 11 * HOUR_MS),  # out of order, within what is allowed
    event(5, "ada", "pot", "impression", 12 * HOUR_MS),
]


class Shelf:
    """A reader that answers with what it was given, in the shape of Feast's answer."""

    def __init__(self, users: dict[str, dict[str, Any]], items: dict[str, dict[str, Any]]) -> None:
        self.rows = {"user_id": users, "item_id": items}

    @classmethod
    def of(cls, counted: Recount) -> "Shelf":
        return cls(
            {user: tally.features() for user, tally in counted.users.items()},
            {item: tally.features() for item, tally in counted.items.items()},
        )

    def get_online_features(self, features: list[str], entity_rows: list[dict[str, Any]]) -> "Shelf":
        (key,) = entity_rows[0]
        names = [name.partition(":")[2] for name in features]
        ids = [row[key] for row in entity_rows]
        self.answer = {key: ids} | {name: [self.rows[key][entity][name] for entity in ids] for name in names}
        return self

    def to_dict(self) -> dict[str, list[Any]]:
        return self.answer


def test_counts_history_and_times_have_the_known_answers() -> None:
    ada = recount(LOG, allowed_lateness_ms=HOUR_MS).users["ada"].features()
    assert {name: ada[f"{name}_count"] for name in ("view", "purchase", "impression", "other", "cart")} == {
        "view": 1,
        "purchase": 1,
        "impression": 1,
        "other": 1,
        "cart": 0,
    }
    assert ada["last_event_ms"] == 12 * HOUR_MS
    assert ada["item_ids"] == ["mug", "pot", "mug"]  # an impression is not an interaction
    assert ada["event_types"] == ["view", "other", "purchase"]


def test_decayed_counters_halve_in_their_half_life() -> None:
    counted = recount(LOG, allowed_lateness_ms=HOUR_MS)
    ada, mug = counted.users["ada"].features(), counted.items["mug"].features()
    assert (ada["view_1h"], ada["purchase_1h"], ada["other_1h"]) == (0.25, 1.0, 0.5)
    assert mug["view_1h"] == 1.25
    assert ada["view_1d"] == pytest.approx(2 ** (-2 / 24))
    assert ada["view_14d"] == pytest.approx(2 ** (-2 / 24 / 14))
    assert ada["cart_1h"] == 0.0


def test_only_the_last_fifty_are_history_and_equal_times_keep_the_order_of_arrival() -> None:
    counted = recount([event(n, "ada", f"i{n}", "view", 1_000) for n in range(60)], allowed_lateness_ms=0)
    assert counted.users["ada"].features()["item_ids"] == [f"i{n}" for n in range(10, 60)]


def test_late_repeated_rejected_and_erased_events_are_in_no_state() -> None:
    log = [
        *LOG,
        event(1, "ada", "mug", "view", 10 * HOUR_MS),
        event(6, "ada", "mug", "view", 11 * HOUR_MS - 1),  # by a millisecond too late
        event(7, "ada", "mug", "view", 13 * HOUR_MS),
        event(8, "eve", "mug", "view", 10 * HOUR_MS),
        event(9, "eve", "mug", "view", 12 * HOUR_MS),
    ]
    counted = recount(log, allowed_lateness_ms=HOUR_MS, rejected={"e7"}, erasures={"eve": 10 * HOUR_MS})
    figures = counted.applied, counted.duplicate, counted.late, counted.rejected, counted.erased
    assert figures == (6, 1, 1, 1, 1)
    assert counted.users["eve"].counts() == {"view": 1}
    assert counted.users["ada"].counts() == recount(LOG, allowed_lateness_ms=HOUR_MS).users["ada"].counts()


def test_equal_features_are_identical_and_every_kind_of_difference_is_named() -> None:
    counted = recount(LOG, allowed_lateness_ms=HOUR_MS)
    shelf = Shelf.of(counted)
    assert compare(counted, shelf) == Comparison(users=2, items=2, events=5, worst_relative_error=0.0, differences=())
    shelf.rows["user_id"]["ada"] |= {
        "view_count": 2,
        "view_1h": 0.25 * (1 + 2e-9),
        "purchase_1h": 1.0 + 1e-12,  # rounding
        "item_ids": ["mug", "mug", "pot"],
        "last_event_ms": None,
    }
    shelf.rows["item_id"]["pot"]["impression_14d"] = 0.0
    differing = {sentence.split(" is ")[0] for sentence in compare(counted, shelf).differences}
    assert differing == {
        "user ada: view_count",
        "user ada: view_1h",
        "user ada: item_ids",
        "user ada: last_event_ms",
        "item pot: impression_14d",
    }


def test_the_sample_is_drawn_by_its_seed() -> None:
    asked: list[list[str]] = []

    class Noting(Shelf):
        def get_online_features(self, features: list[str], entity_rows: list[dict[str, Any]]) -> Shelf:
            asked.append([next(iter(row.values())) for row in entity_rows])
            return super().get_online_features(features, entity_rows)

    counted = recount([event(n, f"u{n}", "mug", "view", n) for n in range(50)], allowed_lateness_ms=0)
    shelf = Noting.of(counted)
    for seed in (1, 1, 2):
        assert compare(counted, shelf, sample=5, seed=seed).users == 5
    assert asked[0] == asked[2] != asked[4]


def test_every_feature_that_is_compared_is_worked_out() -> None:
    counted = recount(LOG, allowed_lateness_ms=HOUR_MS)
    worked_out = set(counted.users["ada"].features())
    assert {name.partition(":")[2] for name in USER_FEATURES} == worked_out
    assert {name.partition(":")[2] for name in ITEM_FEATURES} <= worked_out
