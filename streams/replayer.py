"""Send a log into `clickstream.events` as a website would: keyed by user, in order, at a pace, never too far ahead."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import msgspec

from streams.clients import KafkaConnection
from streams.eventlog import LoggedEvent, encode
from streams.events import CatalogItem
from streams.publisher import Publisher
from streams.topics import CATALOG_ITEMS, CLICKSTREAM_EVENTS

SLICE_S = 0.05  # at a given speed, events leave this often
SLICE_EVENTS = 1_000  # at most this many at once
RECORD_OVERHEAD_BYTES = 24  # of Kafka's format, on top of key and value

Runs = dict[int, list[tuple[bytes | None, bytes | None]]]


class Sender(Protocol):
    """What carries records to Kafka (`streams.publisher.Publisher`)."""

    async def send_runs(self, topic: str, runs: Runs) -> object:
        """Send records of several partitions, each in order, and return when the broker has acknowledged all."""


@dataclass(slots=True)
class Sent:
    """What has been sent so far and acknowledged by the broker."""

    events: int = 0
    by_partition: dict[int, int] = field(default_factory=dict)
    largest_bytes: float = 0.0  # largest mean size of a slice's records
    started_s: float = 0.0  # monotonic
    waited_s: float = 0.0  # held back by `room`


Room = Callable[[Sent, int], Awaitable[None]]


class Replayer:
    """Send events in their order, a slice at a time.

    Args:
        sender: Where records go.
        partition_of: The partition of a key.
        speed: Events a second; None: as fast as `room` allows.
        room: Returns when so many more events may go, given what was sent; lost time is not made up for.
        on_sent: Told after every slice.
        topic: Where events go.

    Raises:
        ValueError: If `speed` is not above 0.
    """

    def __init__(
        self,
        *,
        sender: Sender,
        partition_of: Callable[[bytes], int],
        speed: float | None = None,
        room: Room | None = None,
        on_sent: Callable[[Sent], None] | None = None,
        topic: str = CLICKSTREAM_EVENTS,
    ) -> None:
        if speed is not None and speed <= 0:
            raise ValueError(f"speed is {speed}; expected events a second, above 0, or None for as fast as possible")
        self._sender = sender
        self._partition_of = partition_of
        self._speed = speed
        self._room = room
        self._on_sent = on_sent
        self._topic = topic
        self.sent = Sent()

    async def run(self, chunks: Iterable[list[LoggedEvent]]) -> Sent:
        """Send every event; when it returns, the broker has acknowledged all of them."""
        sent = self.sent
        sent.started_s = time.monotonic()
        size = SLICE_EVENTS if self._speed is None else max(1, min(SLICE_EVENTS, round(self._speed * SLICE_S)))
        due_s = sent.started_s
        for events in slices(chunks, size):
            if self._room is not None:
                waiting_s = time.monotonic()
                await self._room(sent, len(events))
                sent.waited_s += time.monotonic() - waiting_s
            if self._speed is not None:
                now_s = time.monotonic()
                due_s = max(due_s, now_s - SLICE_S)  # a hold is not followed by a burst
                await asyncio.sleep(due_s - now_s)
                due_s += len(events) / self._speed
            await self._send(events)
            if self._on_sent is not None:
                self._on_sent(sent)
        return sent

    async def _send(self, events: list[LoggedEvent]) -> None:
        runs: Runs = {}
        size = 0
        for event, value in zip(events, encode(events), strict=True):
            key = event.user_id.encode()
            runs.setdefault(self._partition_of(key), []).append((key, value))
            size += len(key) + len(value) + RECORD_OVERHEAD_BYTES
        await self._sender.send_runs(self._topic, runs)
        self.sent.events += len(events)
        self.sent.largest_bytes = max(self.sent.largest_bytes, size / len(events))
        for partition, records in runs.items():
            self.sent.by_partition[partition] = self.sent.by_partition.get(partition, 0) + len(records)


async def publish_catalogue(connection: KafkaConnection, items: Iterable[list[CatalogItem]]) -> int:
    """Send a catalogue to `catalog.items`, keyed by item; the number of items, all acknowledged by the broker.

    Raises:
        KafkaUnavailableError: Kafka cannot be reached.
    """
    count = 0
    async with Publisher(connection=connection, client_id="alluvium-catalogue") as publisher:
        for chunk in items:
            await publisher.send_keyed(
                CATALOG_ITEMS, [(item.item_id.encode(), msgspec.json.encode(item)) for item in chunk]
            )
            count += len(chunk)
    return count


def slices(chunks: Iterable[list[LoggedEvent]], size: int) -> Iterator[list[LoggedEvent]]:
    """The same events in lists of `size`, the last one shorter.

    >>> [len(part) for part in slices([[None] * 5, [None] * 3], 3)]
    [3, 3, 2]
    """
    events = (event for chunk in chunks for event in chunk)
    while part := list(islice(events, size)):
        yield part
