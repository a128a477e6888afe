"""Batches that were read and wait to be learned: bounded, and known to be empty."""

import asyncio
from collections import deque

from streams.batches import RecordBatch


class Inbox:
    """A queue of record batches, bounded by records.

    Args:
        capacity: Records that may wait; a batch is taken in while fewer wait.
    """

    def __init__(self, *, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._batches: deque[RecordBatch] = deque()
        self._records = 0
        self._handling = 0
        self._changed = asyncio.Condition()

    @property
    def records(self) -> int:
        """Records that wait or are being handled."""
        return self._records + self._handling

    async def put(self, batch: RecordBatch) -> None:
        """Add a batch; waits while the inbox is full."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._records < self._capacity)
            self._batches.append(batch)
            self._records += len(batch)
            self._changed.notify_all()

    async def take(self, *, wait_s: float) -> RecordBatch | None:
        """Return the oldest batch, or None if none comes within `wait_s`; the batch before it is handled by then."""
        async with self._changed:
            self._handling = 0
            self._changed.notify_all()
            if not self._batches:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait_for(lambda: bool(self._batches))
                except TimeoutError:
                    return None
            batch = self._batches.popleft()
            self._handling = len(batch)
            self._records -= len(batch)
            self._changed.notify_all()
            return batch

    async def drained(self) -> None:
        """Wait until everything that was put in has been handled."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._batches and not self._handling)
