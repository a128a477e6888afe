"""Effects left behind take place in order, at most two batches at once, and a failure stops all that follow."""

import asyncio

import pytest

from streams.behind import MOST_BEHIND, Behind


def waits(event: asyncio.Event):
    async def wait() -> None:
        await event.wait()

    return wait


async def nothing() -> None:
    """Send nothing."""


def test_the_ordered_part_keeps_the_order_even_if_a_later_batch_is_sent_first():
    async def scenario() -> list[int]:
        behind, first_sent, done = Behind(), asyncio.Event(), []

        async def write(number: int) -> None:
            done.append(number)

        await behind.start(waits(first_sent), lambda: write(1))
        second = await behind.start(nothing, lambda: write(2))
        await asyncio.sleep(0.01)
        assert not second.done()
        assert done == []
        first_sent.set()
        await behind.drain()
        return done

    assert asyncio.run(scenario()) == [1, 2]


def test_a_batch_waits_while_as_many_as_allowed_are_under_way():
    async def scenario() -> None:
        behind, gate = Behind(), asyncio.Event()
        for _ in range(MOST_BEHIND):
            await behind.start(waits(gate), nothing)
        another = asyncio.ensure_future(behind.start(nothing, nothing))
        await asyncio.sleep(0.01)
        assert not another.done()
        gate.set()
        await asyncio.wait_for(another, 30)
        await behind.drain()

    asyncio.run(scenario())


def test_nothing_takes_effect_after_something_that_failed():
    async def scenario() -> list[str]:
        behind, gate, done = Behind(), asyncio.Event(), []

        async def fails() -> None:
            await gate.wait()
            raise ValueError("Postgres said no")

        async def write() -> None:
            done.append("written")

        await behind.start(nothing, fails)
        second = await behind.start(nothing, write)
        gate.set()
        with pytest.raises(ValueError, match="said no"):
            await second
        with pytest.raises(ValueError, match="said no"):
            await behind.drain()
        with pytest.raises(ValueError, match="said no"):
            await behind.start(nothing, write)
        return done

    assert asyncio.run(scenario()) == []


def test_cancelled_effects_do_not_take_place():
    async def scenario() -> list[str]:
        behind, done = Behind(), []

        async def write() -> None:
            done.append("written")

        task = await behind.start(waits(asyncio.Event()), write)
        behind.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return done

    assert asyncio.run(scenario()) == []
