"""The graph grows behind the learner: what was learned is taken into it while the next interactions are learned."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streams.events import Interaction

Grow = Callable[[Sequence[Interaction]], Awaitable[None]]


class Growing:
    """Hand interactions on in order, one call at a time, without waiting for it unless too many wait.

    Args:
        grow: Takes them in; bears repeating.
        capacity: Interactions that may wait; whoever brings more waits with them.
    """

    def __init__(self, grow: Grow, *, capacity: int = 5_000) -> None:
        self._grow, self._capacity = grow, capacity
        self._waiting: list[Interaction] = []
        self._running: asyncio.Task[None] | None = None

    async def put(self, interactions: Sequence[Interaction]) -> None:
        """Bring interactions.

        Raises:
            Exception: Whatever an earlier call failed with.
        """
        self._waiting.extend(interactions)
        if len(self._waiting) > self._capacity:
            await self.drained()
        if self._running is not None and self._running.done():
            running, self._running = self._running, None
            running.result()
        if self._running is None and self._waiting:
            waiting, self._waiting = self._waiting, []
            self._running = asyncio.create_task(self._call(waiting), name="growing")

    async def drained(self) -> None:
        """Wait until everything that was brought is taken in.

        Raises:
            Exception: Whatever a call failed with.
        """
        while self._running is not None or self._waiting:
            if self._running is not None:
                running, self._running = self._running, None
                await running
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._running = asyncio.create_task(self._call(waiting), name="growing")

    def stop(self) -> None:
        """Drop what waits; it is delivered again to the next start."""
        self._waiting = []
        if self._running is not None:
            self._running.cancel()

    async def _call(self, interactions: Sequence[Interaction]) -> None:
        await self._grow(interactions)
