"""The ranker: a replica fed by updates alone ranks as the original, and what is measured is what is served."""

import numpy as np
import pytest

from learners.histories import Past
from learners.items.catalog import Catalog
from learners.learner import Learner
from learners.quality.metrics import rank_of
from learners.ranking.ranker import Ranker, RankRequest, top_of
from tests.learners.stream_data import CONFIG, ITEMS, START_MS, item_id, learner, release, stream

NOW_MS = START_MS + 1_000 * 60_000


def taught() -> Learner:
    """A learner that has mixed with a release for a while."""
    one = learner()
    one.observe(stream(400))
    one.adopt(release(1))
    one.observe(stream(600, start=400))
    return one


def requests() -> list[RankRequest]:
    """People with long, short, repetitive and no histories, unknown items among them."""
    rng = np.random.default_rng(1)
    made = [
        RankRequest(
            item_ids=[item_id(int(number)) for number in rng.integers(1, ITEMS + 1, length)],
            times_ms=(NOW_MS - np.arange(length)[::-1] * 1_800_000).tolist(),
            now_ms=NOW_MS,
        )
        for length in (0, 1, 2, 5, 10, 30)
        for _ in range(4)
    ]
    return [*made, RankRequest(item_ids=["unheard-of", item_id(2)], times_ms=[NOW_MS, NOW_MS], now_ms=NOW_MS)]


def assert_ranks_alike(replica: Ranker, original: Ranker) -> None:
    """The same items for the same reasons in the same order, scores equal but for summation order."""
    for ours, theirs in zip(replica.rank(requests(), 10), original.rank(requests(), 10), strict=True):
        assert [(place.item_id, place.reason) for place in ours] == [(place.item_id, place.reason) for place in theirs]
        assert [place.score for place in ours] == pytest.approx([place.score for place in theirs], rel=1e-4)


def test_a_replica_fed_by_updates_alone_ranks_as_the_original() -> None:
    one, replica = learner(), Ranker(catalog=Catalog())
    for number in reversed(range(1, ITEMS - 2)):  # the worker read the catalogue in another order
        replica.catalog.upsert(item_id(number))
    for start in range(0, 1_000, 100):
        if start == 400:
            one.adopt(release(1))
            replica.adopt(release(1))
        one.observe(stream(100, start=start))
        for update in one.expert_updates():
            assert replica.apply(update)
    assert len(list(one.expert_updates())) == 0
    assert_ranks_alike(replica, one.ranker)


def test_a_worker_that_starts_late_ranks_alike_after_a_full_copy() -> None:
    one, replica = taught(), Ranker(catalog=Catalog())
    replica.adopt(release(1))
    for number in range(1, ITEMS - 2):
        replica.catalog.upsert(item_id(number))
    for update in one.full_copy():
        assert replica.apply(update)
    assert_ranks_alike(replica, one.ranker)


def test_updates_that_were_limited_are_not_lost_only_later() -> None:
    one, replica = learner(), Ranker(catalog=learner().catalog)
    one.observe(stream(500))
    rounds = 0
    while updates := list(one.expert_updates(limit=7)):
        rounds += 1
        assert sum(update.expert == "item" for update in updates) <= 7
        for update in updates:
            replica.apply(update)
    assert rounds >= ITEMS // 7
    assert_ranks_alike(replica, one.ranker)


def test_an_update_of_another_expert_is_not_understood() -> None:
    ranker = Ranker(catalog=Catalog())
    update = next(iter(taught().expert_updates()))
    assert not ranker.apply(type(update)("somebody", "else", b"{}"))


def test_the_rank_that_is_measured_is_the_place_that_is_served() -> None:
    one = taught()
    ranker, items = one.ranker, len(one.catalog)
    for request, places in zip(requests(), ranker.rank(requests(), ITEMS), strict=True):
        indexes = one.catalog.indexes_of(request.item_ids).astype(np.int64)
        past = Past(indexes[indexes > 0], np.array(request.times_ms, np.int64)[indexes > 0])
        assert ranker.shared is not None
        judgement = ranker.judge(
            past,
            request.now_ms,
            items=items,
            barred=ranker.barred(items),
            shared_logits=ranker.shared.logits([past], first=3)[0],
        )
        measured = [rank_of(judgement.logits, one.catalog.index_of(place.item_id)) for place in places]
        assert measured == list(range(1, len(places) + 1))


def test_rankings_hold_the_whole_catalogue_once_and_add_up_to_one() -> None:
    for places in taught().ranker.rank(requests(), 1_000):
        assert len({place.item_id for place in places}) == len(places) == ITEMS
        assert sum(place.score for place in places) == pytest.approx(1, abs=1e-4)
        scores = [place.score for place in places]
        assert scores == sorted(scores, reverse=True)


def test_the_excluded_and_the_delisted_are_not_ranked() -> None:
    one = taught()
    one.catalog.delist(item_id(4))
    request = RankRequest(item_ids=[item_id(3)], times_ms=[NOW_MS], now_ms=NOW_MS, exclude=(item_id(5), "unheard-of"))
    ranked = {place.item_id for place in one.ranker.rank([request], 1_000)[0]}
    assert ranked == {item_id(number) for number in range(1, ITEMS + 1)} - {item_id(4), item_id(5)}


def test_returns_in_a_history_are_not_interests() -> None:
    ranker = taught().ranker
    plain = RankRequest(item_ids=[item_id(3)], times_ms=[NOW_MS], now_ms=NOW_MS)
    with_return = RankRequest(
        item_ids=[item_id(3), item_id(9)],
        times_ms=[NOW_MS, NOW_MS],
        event_types=["purchase", "return"],
        now_ms=NOW_MS,
    )
    assert ranker.rank([plain], 5) == ranker.rank([with_return], 5)


def test_a_stranger_in_an_empty_shop_gets_an_empty_ranking() -> None:
    assert Ranker(catalog=Catalog()).rank([RankRequest(now_ms=0)], 5) == [[]]


def test_ranking_fewer_than_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        Ranker(catalog=Catalog()).rank([], 0)


def test_the_reason_is_the_expert_that_contributed_most() -> None:
    one = Learner(catalog=learner().catalog, config=CONFIG)
    for _ in range(30):  # everybody who meets 1 meets 2 next; 9 is popular
        one.observe(stream(5))
    reasons = {place.reason for places in one.ranker.rank(requests(), 10) for place in places}
    assert reasons <= {"covisitation", "popularity", "recency", "repeat"}
    with_model = {place.reason for places in taught().ranker.rank(requests(), ITEMS) for place in places}
    assert "shared_model" in with_model


def test_an_item_after_the_release_is_scored_by_its_text_once_described() -> None:
    ranker = taught().ranker
    assert ranker.shared is not None
    unknown = ranker.catalog.index_of(item_id(ITEMS))
    items, past = len(ranker.catalog), Past(np.array([3]), np.array([NOW_MS]))
    barred = ranker.barred(items)

    def score() -> float:
        assert ranker.shared is not None
        ranker.shared.refresh()
        return float(
            ranker.shared.log_probabilities(ranker.shared.logits([past])[0], items=items, barred=barred)[unknown]
        )

    blind = score()
    ranker.describe(item_id(ITEMS), np.full(8, 3.0, np.float32))
    assert score() != blind


def test_the_best_come_first_and_the_lower_index_among_equals() -> None:
    scores = np.array([-1e9, 1, 3, 3, 2, 3], np.float32)
    assert top_of(scores, 2).tolist() == [2, 3]
    assert top_of(scores, 99).tolist() == [2, 3, 5, 4, 1]
