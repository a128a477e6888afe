"""The learner's threads, one for each thing that blocks, and patience with Postgres."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from learners.errors import RegistryUnavailableError
from learners.knowledge.errors import KnowledgeUnavailableError
from streams.learning.errors import DatabaseUnavailableError
from streams.threads import DedicatedThread

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Where blocking work of each kind runs, in the order it was asked for.

    Args:
        patience_s: How long Postgres may be away before its callers fail.
    """

    def __init__(self, *, patience_s: float = 120.0) -> None:
        self.learning = DedicatedThread("learning")
        self.disk = DedicatedThread("disk")
        self._postgres = DedicatedThread("postgres")
        self._knowledge = DedicatedThread("knowledge")
        self._patience_s = patience_s

    async def database(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await a call to Postgres, again while Postgres is away; so the call must bear repeating.

        Raises:
            DatabaseUnavailableError: If it stays away.
            RegistryUnavailableError: The same, said by the registry.
        """
        return await self._patiently(self._postgres, lambda: call(*args, **kwargs))

    async def knowledge(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await a call to the knowledge store or the graph, with the same patience; it may take long.

        Raises:
            KnowledgeUnavailableError: If Postgres stays away.
        """
        return await self._patiently(self._knowledge, lambda: call(*args, **kwargs))

    async def _patiently(self, thread: DedicatedThread, call: Callable[[], R]) -> R:
        give_up_at = asyncio.get_running_loop().time() + self._patience_s
        while True:
            try:
                return await thread.run(call)
            except (DatabaseUnavailableError, RegistryUnavailableError, KnowledgeUnavailableError) as error:
                if asyncio.get_running_loop().time() > give_up_at:
                    raise
                log.warning("database_unavailable", error=str(error))
                await asyncio.sleep(error.retry_after_s)

    def stop(self) -> None:
        """Finish what was begun."""
        for thread in (self.learning, self.disk, self._postgres, self._knowledge):
            thread.stop()
