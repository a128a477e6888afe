"""The flow of events into a running system: held back where it must be, parked while somebody compares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.replay.backpressure import BackPressure
from streams.replayer import Sent


class Feed:
    """The replayer's `room`, which can also be parked.

    Args:
        pressure: What holds the replayer back while it is not parked.
    """

    def __init__(self, pressure: BackPressure) -> None:
        self._pressure = pressure
        self._parkers = 0
        self._open = asyncio.Event()
        self._open.set()
        self._quiet = asyncio.Event()

    async def room(self, sent: Sent, events: int) -> None:
        """Return when `events` more may be sent; all that was sent before is acknowledged by then."""
        while not self._open.is_set():
            self._quiet.set()
            await self._open.wait()
        self._quiet.clear()
        await self._pressure.room(sent, events)
        if not self._open.is_set():
            await self.room(sent, events)

    def ended(self) -> None:
        """Tell that nothing more will be sent."""
        self._quiet.set()

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """While the context lasts nothing is sent, and nothing is under way."""
        self._parkers += 1
        self._open.clear()
        try:
            await self._quiet.wait()
            yield
        finally:
            self._parkers -= 1
            if not self._parkers:
                self._open.set()
