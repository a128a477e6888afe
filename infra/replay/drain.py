"""Waiting until a running system has caught up with what was sent to it; every wait ends, if only with an error."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from infra.replay.watch import Watch, until
from streams.learning.round_records import read_rounds

PATIENCE_S = 180.0  # longest time without any progress before the replay is called off
SWAP_PATIENCE_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Waits on one system.

    Args:
        watch: Asks how far the system is.
        sent: Gives how many events were sent.
        witnessed_rejections: Gives how many dead letters the independent consumer has read.
        has_learner: Whether there is a learner to wait for.
        round_timeout_s: Longest time that a round may take.

    Every method raises `StalledError` when nothing moves any more.
    """

    watch: Watch
    sent: Callable[[], int]
    witnessed_rejections: Callable[[], int]
    has_learner: bool
    round_timeout_s: float

    async def ingested(self) -> None:
        """Wait until every event is in the ledger."""

        async def reached() -> bool:
            return (await self.watch.consumed()).events >= self.sent()

        await until(reached, moving=self.watch.consumed, patience_s=PATIENCE_S, waiting_for="the workers to ingest")

    async def featured(self) -> None:
        """Wait until all features hold everything sent, and the witness knows what was rejected."""

        async def reached() -> bool:
            consumed = await self.watch.consumed()
            return (
                consumed.events >= self.sent()
                and consumed.by_item >= consumed.applied
                and self.witnessed_rejections() >= consumed.rejected
            )

        await until(reached, moving=self.watch.consumed, patience_s=PATIENCE_S, waiting_for="the features")

    async def learned(self) -> None:
        """Wait until the features are current, and the learner has learned everything and ended its last round."""
        await self.featured()
        if not self.has_learner:
            return

        async def reached() -> bool:
            consumed = await self.watch.consumed()
            return (consumed.learned or 0) >= consumed.interactions and not consumed.rounds_behind

        patience_s = max(PATIENCE_S, self.round_timeout_s)
        await until(reached, moving=self.watch.consumed, patience_s=patience_s, waiting_for="the learner's last round")

    async def swapped(self) -> None:
        """Wait, but not long, for a worker to take over the last release."""
        rounds = await asyncio.to_thread(read_rounds, self.watch.postgres_url)
        newest = max((finished["version"] or 0 for finished in rounds), default=0)

        async def reached() -> bool:
            await self.watch.note_swaps()
            return not newest or any(swap["version"] == newest for swap in self.watch.swaps.values())

        with contextlib.suppress(TimeoutError):
            await until(reached, moving=nothing, patience_s=SWAP_PATIENCE_S, waiting_for="the last swap")


async def nothing() -> None:
    """What never changes: for waits that only time can end."""
