"""Effects that take place behind: while a batch's rows are being written, the next batch is prepared."""

import asyncio
from collections.abc import Awaitable, Callable

MOST_BEHIND = 2  # batches whose effects are under way: one in Postgres, one on its way through Kafka


class Behind:
    """Carries out the effects of batches in tasks of their own, the ordered part in the order of `start`.

    An effect that failed fails every later one: nothing may take effect after something that did not.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self, free: Callable[[], Awaitable[None]], ordered: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None]:
        """Begin the effects of one batch; waits first while `MOST_BEHIND` batches are under way.

        Args:
            free: Called at once, beside the effects of earlier batches.
            ordered: Called when `free` and the effects of every earlier batch are done.

        Returns:
            The task, done when both are.
        """
        while len(self._tasks) >= MOST_BEHIND:
            await asyncio.wait([self._tasks[0]])
            self._sweep()
        before = self._tasks[-1] if self._tasks else None

        async def effects() -> None:
            await free()
            if before is not None:
                await asyncio.shield(before)
            await ordered()

        task = asyncio.create_task(effects())
        self._tasks.append(task)
        return task

    def _sweep(self) -> None:
        """Forget what succeeded; what failed stays, to fail what comes after it."""
        done = [task for task in self._tasks if task.done()]
        for task in done:
            task.result()
            self._tasks.remove(task)

    async def drain(self) -> None:
        """Wait until nothing is under way.

        Raises:
            Exception: What an effect raised.
        """
        while self._tasks:
            await asyncio.wait([self._tasks[-1]])
            self._sweep()

    def cancel(self) -> None:
        """Give up what is under way, as a killed process would; it is done again from the ledger's offset."""
        for task in self._tasks:
            task.cancel()
