"""The simulated shop does what its truth says."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from infra.demo.catalogue import Catalogue, write_catalogue
from infra.demo.drifts import PlantedDrift, plan_drifts
from infra.demo.shop import Shop, best_click_rate
from infra.demo.visitors import Visitors
from streams.events import CatalogItem, ClickstreamEvent, RankedItem, Ranking

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SPAN_MS = 200 * HOUR_MS
CATALOGUE = write_catalogue(seed=0)


def make_shop(
    *,
    seed: int = 0,
    count: int = 100,
    control_share: float = 0.5,
    drifts: Sequence[PlantedDrift] = (),
    visits_per_hour: float = 50.0,
    catalogue: Catalogue = CATALOGUE,
) -> tuple[Shop, Visitors]:
    visitors = Visitors(count=count, catalogue=catalogue, drifts=drifts, seed=seed, control_share=control_share)
    shop = Shop(
        catalogue=catalogue,
        visitors=visitors,
        start_ms=START_MS,
        visits_per_ms=visits_per_hour / HOUR_MS,
        seed=seed,
    )
    return shop, visitors


def run(shop: Shop, *, hours: int, answer: Callable[[], None] | None = None) -> list[ClickstreamEvent]:
    events: list[ClickstreamEvent] = []
    for _ in range(hours):
        events += shop.advance(shop.now_ms + HOUR_MS).events
        if answer:
            answer()
    return events


def rank_for(user_id: str, item_ids: Sequence[str], *, version: int = 1) -> Ranking:
    items = tuple(RankedItem(item_id=item_id, score=1.0, reason="repeat") for item_id in item_ids)
    return Ranking(ranking_id=f"r-{user_id}", user_id=user_id, model_version=version, items=items, ranked_at_ms=0)


def click_rate(shop: Shop, *, is_control: bool) -> float:
    chosen = [e for e in shop.exposures if e.is_control == is_control and e.visit > 0]
    return sum(e.clicks for e in chosen) / sum(e.shown for e in chosen)


def test_catalogue_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert write_catalogue(seed=0).items == CATALOGUE.items
    assert write_catalogue(seed=1).items != CATALOGUE.items


def test_catalogue_text_says_department_and_style_and_survives_the_wire() -> None:
    record = CATALOGUE.items[0]
    assert record.category == ("Kitchen", "Coffee and Tea")
    assert "coffee and tea" in record.description
    assert record.attributes["style"] in record.description.lower()
    assert msgspec.json.decode(msgspec.json.encode(record), type=CatalogItem) == record


def test_item_ids_are_unique_and_companions_stay_in_the_department() -> None:
    assert len({item.item_id for item in CATALOGUE.items}) == len(CATALOGUE)
    assert (CATALOGUE.department[CATALOGUE.companion] == CATALOGUE.department).all()
    assert (CATALOGUE.companion != np.arange(len(CATALOGUE))).all()


@pytest.mark.parametrize("nouns", [0, 11])
def test_a_catalogue_of_impossible_size_is_refused(nouns: int) -> None:
    with pytest.raises(ValueError, match=f"nouns_per_department is {nouns}; expected 1 to 10"):
        write_catalogue(seed=0, nouns_per_department=nouns)


def test_traffic_is_the_same_for_the_same_seed() -> None:
    first, second = (run(make_shop()[0], hours=5) for _ in range(2))
    assert first == second
    assert first != run(make_shop(seed=1)[0], hours=5)


def test_events_move_forward_in_time_and_never_past_the_clock() -> None:
    shop, _ = make_shop()
    newest = START_MS
    for _ in range(10):
        events = shop.advance(shop.now_ms + HOUR_MS).events
        times = [round(event.event_time.timestamp() * 1000) for event in events]
        assert times == sorted(times)
        assert times[0] >= newest
        assert times[-1] < shop.now_ms
        newest = times[-1]


def test_every_event_is_valid_on_the_wire_and_its_id_is_unique() -> None:
    events = run(make_shop()[0], hours=5)
    for event in events:
        assert msgspec.json.decode(msgspec.json.encode(event), type=ClickstreamEvent) == event
    assert len({event.event_id for event in events}) == len(events)


def test_the_funnel_narrows_and_nobody_buys_what_they_did_not_look_at() -> None:
    events = run(make_shop()[0], hours=20)
    counts = Counter(event.event_type for event in events)
    assert counts["impression"] > counts["view"] > counts["cart"] > counts["purchase"] > 0
    assert counts["click"] > 0
    seen = set()
    carted = set()
    for event in events:
        pair = (event.session_id, event.item_id)
        if event.event_type in {"view", "click"}:
            seen.add(pair)
        elif event.event_type == "cart":
            assert pair in seen
            carted.add(pair)
        elif event.event_type == "purchase":
            assert pair in carted
            assert event.price is not None


def test_the_catalogue_is_published_once_and_new_items_with_their_drift() -> None:
    drifts = plan_drifts(start_ms=START_MS, span_ms=100 * HOUR_MS)
    shop, _ = make_shop(drifts=drifts)
    assert len(shop.advance(START_MS + HOUR_MS).arrivals) == 480
    assert shop.advance(START_MS + 61 * HOUR_MS).arrivals == []
    arrivals = shop.advance(START_MS + 63 * HOUR_MS).arrivals
    assert {item.category for item in arrivals} == {("Sport", "Home Fitness")}
    assert shop.advance(START_MS + 64 * HOUR_MS).arrivals == []


def test_new_items_are_looked_at_only_after_they_arrive() -> None:
    drifts = plan_drifts(start_ms=START_MS, span_ms=100 * HOUR_MS)
    shop, _ = make_shop(drifts=drifts)
    new = {item.item_id for item, is_new in zip(CATALOGUE.items, CATALOGUE.is_new, strict=True) if is_new}
    before = run(shop, hours=60)
    after = run(shop, hours=20)
    assert not [event for event in before if event.item_id in new]
    views = [event for event in after if event.event_type == "view"]
    assert sum(event.item_id in new for event in views) / len(views) > 0.15


def test_the_taste_shift_moves_nine_in_ten_visitors_and_only_from_its_moment_on() -> None:
    drifts = plan_drifts(start_ms=START_MS, span_ms=100 * HOUR_MS)[:1]
    _, visitors = make_shop(count=1_000, drifts=drifts)
    shift_ms = START_MS + 40 * HOUR_MS
    moved = 0
    for visitor in range(len(visitors)):
        start, before, after = (visitors.tastes(visitor, at_ms)[1] for at_ms in (START_MS, shift_ms - 1, shift_ms))
        assert (start == before).all()
        moved += bool((before != after).any())
    assert 870 < moved < 930


def test_the_seasonal_swing_turns_winter_into_summer() -> None:
    drifts = plan_drifts(start_ms=START_MS, span_ms=100 * HOUR_MS)[2:]
    shop, _ = make_shop(drifts=drifts)
    season = dict(zip((item.item_id for item in CATALOGUE.items), CATALOGUE.season.tolist(), strict=True))

    def mean_season(events: list[ClickstreamEvent]) -> float:
        return statistics.fmean(season[event.item_id] for event in events if event.event_type == "view")

    assert mean_season(run(shop, hours=80)) < -0.1
    run(shop, hours=5)
    assert mean_season(run(shop, hours=15)) > 0.1


def test_a_published_ranking_is_shown_to_its_reader_and_named_in_every_reaction() -> None:
    shop, visitors = make_shop(control_share=0.0)
    wanted = [item.item_id for item in CATALOGUE.items[:12]]
    for user_id in visitors.ids:
        shop.receive(rank_for(user_id, wanted, version=7))
    events = run(shop, hours=5)
    impressions = [event for event in events if event.event_type == "impression"]
    assert {event.item_id for event in impressions} == set(wanted[:10])
    for event in events:
        if event.event_type in {"impression", "click"}:
            assert event.ranking_id == f"r-{event.user_id}"
            assert event.position is not None
            assert event.item_id == wanted[event.position]
    assert {exposure.model_version for exposure in shop.exposures} == {7}


def test_the_control_group_is_never_shown_a_published_ranking() -> None:
    shop, visitors = make_shop(control_share=1.0)
    for user_id in visitors.ids:
        shop.receive(rank_for(user_id, [CATALOGUE.items[0].item_id]))
    assert all(event.ranking_id is None for event in run(shop, hours=5))
    assert {exposure.model_version for exposure in shop.exposures} == {None}


def test_unknown_items_of_a_ranking_are_not_shown() -> None:
    shop, visitors = make_shop(control_share=0.0)
    for user_id in visitors.ids:
        shop.receive(rank_for(user_id, ["no such item", "P0003"]))
    events = run(shop, hours=2)
    assert {event.item_id for event in events if event.event_type == "impression"} == {"P0003"}


def test_rankings_that_know_the_truth_reach_the_best_click_rate_and_bestsellers_do_not() -> None:
    shop, visitors = make_shop(count=200, visits_per_hour=100.0)

    def answer() -> None:
        for visitor, user_id in enumerate(visitors.ids):
            best = np.argsort(-visitors.utility(visitor, shop.now_ms))[:10]
            shop.receive(rank_for(user_id, [CATALOGUE.items[item].item_id for item in best]))

    run(shop, hours=30, answer=answer)
    assert click_rate(shop, is_control=False) == pytest.approx(best_click_rate(10), rel=0.07)
    assert click_rate(shop, is_control=True) < best_click_rate(10) / 2
