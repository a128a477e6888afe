"""Replaying: the order and the keys of the log, the pace that was asked for, and no step further than there is room."""

import asyncio
import time

import msgspec
import pytest

from streams.eventlog import LoggedEvent
from streams.replayer import Replayer, Runs, Sent

EVENTS = [LoggedEvent(f"e{n}", f"u{n % 7}", "i", "view", 1_600_000_000_000 + n, {}) for n in range(2_500)]


class Notebook:
    """A sender that notes what it was given."""

    def __init__(self) -> None:
        self.partitions: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
        self.moments: list[tuple[float, int]] = []

    async def send_runs(self, topic: str, runs: Runs) -> None:
        assert topic == "clickstream.events"
        self.moments.append((time.monotonic(), sum(map(len, runs.values()))))
        for partition, records in runs.items():
            self.partitions.setdefault(partition, []).extend(records)


def by_last_digit(key: bytes) -> int:
    return key[-1] % 3


async def test_every_event_arrives_once_under_its_user_in_the_order_of_the_log() -> None:
    notebook = Notebook()
    sent = await Replayer(sender=notebook, partition_of=by_last_digit).run([EVENTS[:1_234], EVENTS[1_234:]])
    assert sent.events == len(EVENTS)
    assert sent.by_partition == {partition: len(records) for partition, records in notebook.partitions.items()}
    for partition, records in notebook.partitions.items():
        ids = [msgspec.json.decode(value)["event_id"] for _, value in records]
        assert ids == [event.event_id for event in EVENTS if by_last_digit(event.user_id.encode()) == partition]
        assert all(msgspec.json.decode(value)["user_id"].encode() == key for key, value in records)


async def test_speed_is_kept() -> None:
    notebook = Notebook()
    begun = time.monotonic()
    await Replayer(sender=notebook, partition_of=by_last_digit, speed=2_000).run([EVENTS[:1_001]])
    assert 0.45 <= time.monotonic() - begun <= 1.0
    assert max(count for _, count in notebook.moments) == 100  # evenly, not in bursts


async def test_a_hold_is_waited_for_and_not_made_up_for() -> None:
    notebook = Notebook()

    async def room(sent: Sent, events: int) -> None:
        if sent.events == 200:
            await asyncio.sleep(0.4)

    sent = await Replayer(sender=notebook, partition_of=by_last_digit, speed=2_000, room=room).run([EVENTS[:600]])
    after_hold = [moment for moment, _ in notebook.moments][2:]
    assert sent.waited_s >= 0.4
    assert after_hold[-1] - after_hold[0] >= 0.1  # 300 events in 100s: not all at once


async def test_room_is_asked_for_exactly_what_is_sent_next() -> None:
    asked: list[tuple[int, int]] = []

    async def room(sent: Sent, events: int) -> None:
        asked.append((sent.events, events))

    await Replayer(sender=Notebook(), partition_of=by_last_digit, room=room).run([EVENTS])
    assert asked == [(0, 1_000), (1_000, 1_000), (2_000, 500)]


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="speed is 0; expected events a second"):
        Replayer(sender=Notebook(), partition_of=by_last_digit, speed=0)
