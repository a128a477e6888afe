"""Send the simulated shop's traffic into Kafka at its pace, and hold the shop's clock while the system catches up."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from infra.demo.drifts import Kind, PlantedDrift
from infra.demo.shop import Shop, Traffic
from streams.events import ClickstreamEvent
from streams.publisher import Publisher
from streams.replayer import RECORD_OVERHEAD_BYTES, Sent
from streams.topics import CATALOG_ITEMS, CLICKSTREAM_EVENTS

STEP_S = 0.25  # wall time of one step of the shop's clock
RATE_WINDOW_S = 5.0
TARGET_TYPES = frozenset({"view", "click", "cart", "purchase"})  # what qualities are measured on


class Website:
    """Runs the shop and sends what happens there.

    Args:
        shop: The shop.
        publisher: Where records go.
        drifts: Planted drifts, to note when each was planted.
        start_ms: Event time at which the traffic begins.
        span_ms: Simulated length of the traffic.
        duration_s: Wall time of the traffic when nothing holds it back.
        deadline_s: Wall time after which it ends, wherever it is.
        room: Returns when so many more events may go, given what was sent.
    """

    def __init__(
        self,
        *,
        shop: Shop,
        publisher: Publisher,
        drifts: Sequence[PlantedDrift],
        start_ms: int,
        span_ms: int,
        duration_s: float,
        deadline_s: float,
        room: Callable[[Sent, int], Awaitable[None]],
    ) -> None:
        self._shop = shop
        self._publisher = publisher
        self._drifts = drifts
        self._start_ms, self._span_ms = start_ms, span_ms
        self._duration_s, self._deadline_s = duration_s, deadline_s
        self._room = room
        self._encode = msgspec.json.Encoder().encode
        self._recent: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._began: float | None = None
        self._ended: float | None = None
        self._targets = 0
        self.sent = Sent()
        self.started: dict[Kind, tuple[int, float]] = {}

    @property
    def wall_s(self) -> float:
        """Seconds of traffic so far."""
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def simulated_ms(self) -> int:
        """The shop's clock."""
        return self._shop.now_ms

    @property
    def share(self) -> float:
        """How much of the simulated span is over, 0 to 1."""
        return (self._shop.now_ms - self._start_ms) / self._span_ms

    @property
    def events_per_s(self) -> float:
        """Events sent per second, over the last seconds."""
        (first_s, first), (last_s, last) = self._recent[0], self._recent[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    async def open(self) -> None:
        """Publish the catalogue, before the first visit."""
        await self._send(self._shop.advance(self._shop.now_ms))

    async def run(self) -> None:
        """Let the simulated span pass; return when Kafka has acknowledged everything."""
        steps = max(round(self._duration_s / STEP_S), 1)
        self._began = due_s = time.monotonic()
        expected = 0
        for step in range(1, steps + 1):
            await self._room(self.sent, expected)
            if self.wall_s > self._deadline_s:
                break
            now_s = time.monotonic()
            due_s = max(due_s + self._duration_s / steps, now_s - STEP_S)  # a hold is not followed by a burst
            await asyncio.sleep(due_s - now_s)
            traffic = self._shop.advance(self._start_ms + round(step * self._span_ms / steps))
            self._note_drifts(traffic.events)
            await self._send(traffic)
            expected = max(expected, len(traffic.events))
            self._note_rate()
        self._ended = time.monotonic()

    def _note_drifts(self, events: Sequence[ClickstreamEvent]) -> None:
        """How many interactions went before each drift: its true place in what the learner scores."""
        for drift in self._drifts:
            if drift.kind not in self.started and drift.start_ms < self._shop.now_ms:
                before = [event for event in events if event.event_time.timestamp() * 1000 < drift.start_ms]
                self.started[drift.kind] = (self._targets + count_targets(before), self.wall_s)
        self._targets += count_targets(events)

    def _note_rate(self) -> None:
        self._recent.append((self.wall_s, self.sent.events))
        while self._recent[-1][0] - self._recent[0][0] > RATE_WINDOW_S:
            self._recent.popleft()

    async def _send(self, traffic: Traffic) -> None:
        items = [(item.item_id.encode(), self._encode(item)) for item in traffic.arrivals]
        if items:
            await self._publisher.send_keyed(CATALOG_ITEMS, items)
        if not traffic.events:
            return
        partition_of = await self._publisher.partitioner(CLICKSTREAM_EVENTS)
        runs: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
        size = 0
        for event in traffic.events:
            key, value = event.user_id.encode(), self._encode(event)
            runs.setdefault(partition_of(key), []).append((key, value))
            size += len(key) + len(value) + RECORD_OVERHEAD_BYTES
        await self._publisher.send_runs(CLICKSTREAM_EVENTS, runs)
        self.sent.events += len(traffic.events)
        self.sent.largest_bytes = max(self.sent.largest_bytes, size / len(traffic.events))
        for partition, records in runs.items():
            self.sent.by_partition[partition] = self.sent.by_partition.get(partition, 0) + len(records)


def count_targets(events: Sequence[ClickstreamEvent]) -> int:
    """How many of these the learner scores."""
    return sum(event.event_type in TARGET_TYPES for event in events)
