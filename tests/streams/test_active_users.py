import asyncio

from streams.active_users import ActiveUsers
from streams.events import Interaction


def interaction(user_id: str, offset: int, appended_at_ms: int) -> Interaction:
    return Interaction(
        event_id=f"e{offset}",
        user_id=user_id,
        item_id="i",
        event_type="view",
        event_time_ms=10 * offset,
        appended_at_ms=appended_at_ms,
        partition=3,
        offset=offset,
    )


async def test_a_burst_of_events_costs_one_ranking_that_answers_for_its_oldest_event() -> None:
    active = ActiveUsers()
    active.note([interaction("ada", 1, 100), interaction("bob", 2, 110), interaction("ada", 3, 120)])
    first, second = await active.take(10)
    assert (first.user_id, first.cause, first.event_time_ms, first.oldest_appended_at_ms) == ("ada", "3-3", 30, 100)
    assert second.user_id == "bob"
    assert len(active) == 0


async def test_take_waits_until_someone_is_active() -> None:
    active = ActiveUsers()
    taking = asyncio.ensure_future(active.take(10))
    await asyncio.sleep(0.01)
    assert not taking.done()
    active.note([interaction("ada", 1, 100)])
    assert [a.user_id for a in await taking] == ["ada"]


async def test_people_with_new_events_are_ranked_before_those_whom_a_release_refreshes() -> None:
    active = ActiveUsers()
    active.note([interaction("ada", 1, 100)])
    await active.take(1)
    active.refresh("release-2")
    active.note([interaction("bob", 2, 110)])
    assert [a.user_id for a in await active.take(10)] == ["bob"]
    (refreshed,) = await active.take(10)
    assert (refreshed.user_id, refreshed.cause, refreshed.oldest_appended_at_ms) == ("ada", "release-2", None)


async def test_who_cannot_wait_is_counted_and_who_is_forgotten_is_not_ranked() -> None:
    active = ActiveUsers(capacity=2, remembered=2)
    active.note([interaction(user, n, n) for n, user in enumerate(["ada", "bob", "cid"])])
    assert active.let_go == 1
    active.forget("bob")
    assert [a.user_id for a in await active.take(10)] == ["cid"]
    active.refresh("release-1")
    assert [a.user_id for a in await active.take(10)] == ["cid"]
