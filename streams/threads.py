"""One dedicated thread per blocking store, so that the event loop never waits (DESIGN section 3)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DedicatedThread:
    """Runs blocking calls one after another on a thread of their own, in the order they were asked for.

    Args:
        name: Shown in stack dumps.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `call(*args, **kwargs)` made on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def stop(self) -> None:
        """Finish what was begun, drop what was not."""
        self._executor.shutdown(wait=True, cancel_futures=True)
