"""Replaying: the order and the keys of the log, the pace that was asked for, and no step further than there is room."""

from types import SimpleNamespace

import msgspec
import pytest

from streams import replayer
from streams.eventlog import LoggedEvent
from streams.replayer import Replayer, Runs, Sent

EVENTS = [LoggedEvent(f"e{n}", f"u{n % 7}", "i", "view", 1_600_000_000_000 + n, {}) for n in range(2_500)]


class Clock:
    """Time that passes only by sleeping, whatever else the machine does."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += max(delay_s, 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(replayer, "time", clock)
    monkeypatch.setattr(replayer, "asyncio", SimpleNamespace(sleep=clock.sleep))
    return clock


class Notebook:
    """A sender that notes what it was given, and when."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.partitions: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
        self.moments: list[tuple[float, int]] = []

    async def send_runs(self, topic: str, runs: Runs) -> None:
        assert topic == "clickstream.events"
        self.moments.append((self.clock.now_s, sum(map(len, runs.values()))))
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


async def test_speed_is_kept(clock: Clock) -> None:
    notebook = Notebook(clock)
    await Replayer(sender=notebook, partition_of=by_last_digit, speed=2_000).run([EVENTS[:1_001]])
    assert notebook.moments == [*((pytest.approx(0.05 * n), 100) for n in range(10)), (pytest.approx(0.5), 1)]


async def test_a_hold_is_waited_for_and_not_made_up_for(clock: Clock) -> None:
    notebook = Notebook(clock)

    async def room(sent: Sent, events: int) -> None:
        if sent.events == 200:
            await clock.sleep(0.4)

    sent = await Replayer(sender=notebook, partition_of=by_last_digit, speed=2_000, room=room).run([EVENTS[:600]])
    assert sent.waited_s == pytest.approx(0.4)
    # one slice's lateness, which any machine has, is made up for; the other three wait for their turn
    assert [moment for moment, _ in notebook.moments] == pytest.approx([0.0, 0.05, 0.45, 0.45, 0.5, 0.55])


async def test_room_is_asked_for_exactly_what_is_sent_next() -> None:
    asked: list[tuple[int, int]] = []

    async def room(sent: Sent, events: int) -> None:
        asked.append((sent.events, events))

    await Replayer(sender=Notebook(), partition_of=by_last_digit, room=room).run([EVENTS])
    assert asked == [(0, 1_000), (1_000, 1_000), (2_000, 500)]


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="speed is 0; expected events a second"):
        Replayer(sender=Notebook(), partition_of=by_last_digit, speed=0)
