"""How a long-running process ends: a signal asks it to, it stops in order, and nothing that hangs keeps it alive."""

import asyncio
import os
import signal
from collections.abc import Iterable
from typing import Any, Protocol

STOP_DEADLINE_S = 45.0
CANCEL_AGAIN_S = 15.0  # longer than a reader takes to close after an outage
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stoppable(Protocol):
    """A process's parts."""

    stopping: asyncio.Event

    async def run(self) -> None:
        """Work until `stopping` is set, then make durable what was done."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Served(Protocol):
    """What tells the world about a process while it runs; `streams.health.HealthServer`."""

    async def start(self) -> object:
        """Begin to answer."""
        ...

    async def stop(self) -> None:
        """Answer no more."""
        ...


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until each has ended.

    One that goes on is cancelled again: aiokafka forgets a cancellation that comes while it closes a client (it
    suppresses that of a task of its own), and `asyncio.wait_for` of Python 3.11 one that comes with its result.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


async def run_until_stopped(process: Stoppable, health: Served, *, deadline_s: float = STOP_DEADLINE_S) -> int:
    """Run a process until SIGTERM or SIGINT, or until it fails; returns the exit status.

    Args:
        process: Runs, and is closed however it ends.
        health: Started before it, stopped before it is closed.
        deadline_s: Whatever hangs while closing is cut off after so long, with exit status 1: what the process made
            durable says how far it was.

    Raises:
        Exception: Whatever ended the process.
    """
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, process.stopping.set)
    await health.start()
    try:
        await process.run()
    finally:
        deadline = loop.call_later(deadline_s, os._exit, 1)
        await health.stop()
        await process.close()
        deadline.cancel()
    return 0
