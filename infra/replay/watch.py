"""How far the running system is: asked of the ledger, of the learner and of the workers, never of the wall clock."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feature_store.errors import StoreUnavailableError
from feature_store.report import ledger_report
from infra.replay.backpressure import Consumed
from infra.replay.errors import StalledError
from streams.topics import CLICKSTREAM_EVENTS, INTERACTIONS_BY_ITEM

HTTP_TIMEOUT_S = 2.0
FRESH_S = 0.1  # an answer this young is given again, so that watching costs next to nothing
STORE_PATIENCE_S = 60.0

Ledger = Mapping[str, Any]


@dataclass(kw_only=True)
class Watch:
    """Asks the parts of a running system.

    Args:
        postgres_url: Where the ledger is.
        cluster_id: Of the Kafka cluster.
        learner_url: The learner's HTTP address; None: there is no learner.
        worker_urls: The workers' HTTP addresses.
        round_interactions: Interactions of a learning round.
        before: The ledger before the replay; see `begin`.
    """

    postgres_url: str
    cluster_id: str
    learner_url: str | None
    worker_urls: Sequence[str]
    round_interactions: int
    before: Ledger = field(default_factory=dict)
    swaps: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)  # by worker and sequence
    _answer: Consumed = field(default_factory=lambda: Consumed(by_partition={}))
    _answered_s: float = -FRESH_S

    async def begin(self) -> None:
        """Note what the ledger says already."""
        self.before = await self.ledger()

    async def ledger(self) -> Ledger:
        """Counts, next offsets and freshness by topic; who only watches waits for a Postgres that is busy.

        Raises:
            StoreUnavailableError: If it does not answer for `STORE_PATIENCE_S`.
        """
        give_up_s = time.monotonic() + STORE_PATIENCE_S
        while True:
            try:
                return await asyncio.to_thread(ledger_report, self.postgres_url, self.cluster_id)
            except StoreUnavailableError as error:
                if time.monotonic() >= give_up_s:
                    raise
                await asyncio.sleep(error.retry_after_s)

    async def learner(self) -> dict[str, Any] | None:
        """What the learner says of itself; None while it does not answer."""
        return None if self.learner_url is None else await asyncio.to_thread(get_json, f"{self.learner_url}/progress")

    async def consumed(self) -> Consumed:
        """How far the pipeline is, since `begin`."""
        if time.monotonic() - self._answered_s > FRESH_S:
            ledger, learner = await asyncio.gather(self.ledger(), self.learner())
            self._answer, self._answered_s = (
                consumed_of(ledger, self.before, learner, round_interactions=self.round_interactions),
                time.monotonic(),
            )
        return self._answer

    async def note_swaps(self) -> None:
        """Remember which worker swapped to which release when; a worker that is killed forgets it."""
        answers = await asyncio.gather(*(asyncio.to_thread(get_json, f"{url}/progress") for url in self.worker_urls))
        for url, answer in zip(self.worker_urls, answers, strict=True):
            for swap in (answer or {}).get("swaps", ()):
                self.swaps.setdefault((url, swap["sequence"]), dict(swap))


def consumed_of(
    ledger: Ledger, before: Ledger, learner: Mapping[str, Any] | None, *, round_interactions: int
) -> Consumed:
    """The figures that matter, of what the ledger and the learner say.

    >>> ledger = {"clickstream.events": {"counts": {"applied": 7, "late": 1}, "next_offset": {0: 9}}}
    >>> learner = {"interactions": 5, "round_running": True, "since_last_trigger": 2_500}
    >>> consumed_of(ledger, {}, learner, round_interactions=1_000)
    Consumed(by_partition={0: 9}, applied=7, late=1, rejected=0, by_item=0, learned=5, since_trigger=2500,
             rounds_behind=3)
    """
    events, earlier = (side.get(CLICKSTREAM_EVENTS, {}) for side in (ledger, before))
    past = earlier.get("next_offset", {})

    def since(topic: str, name: str) -> int:
        now, then = (side.get(topic, {}).get("counts", {}).get(name, 0) for side in (ledger, before))
        return int(now - then)

    return Consumed(
        by_partition={
            partition: (offset or 0) - (past.get(partition) or 0)
            for partition, offset in events.get("next_offset", {}).items()
        },
        applied=since(CLICKSTREAM_EVENTS, "applied"),
        late=since(CLICKSTREAM_EVENTS, "late"),
        rejected=since(CLICKSTREAM_EVENTS, "rejected"),
        by_item=since(INTERACTIONS_BY_ITEM, "applied"),
        learned=None if learner is None else learned_by(learner),
        since_trigger=0 if learner is None else int(learner["since_last_trigger"]),
        rounds_behind=0
        if learner is None
        else bool(learner["round_running"]) + int(learner["since_last_trigger"]) // round_interactions,
    )


def learned_by(learner: Mapping[str, Any]) -> int:
    """Interactions that the learner has taken in, those of forgotten people included, each once."""
    return int(learner["interactions"]) + int(learner.get("interactions_by_outcome", {}).get("erased", 0))


def get_json(url: str) -> dict[str, Any] | None:
    """The JSON at `url`; None if nobody answers, or not in time."""
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:  # noqa: S310 - our own process
            found: dict[str, Any] = json.load(answer)
    except (OSError, urllib.error.URLError, json.JSONDecodeError):
        return None
    return found


async def until(
    reached: Callable[[], Awaitable[object]],
    *,
    moving: Callable[[], Awaitable[object]],
    patience_s: float,
    waiting_for: str,
    poll_s: float = 0.2,
) -> None:
    """Return when `reached` gives something true.

    Args:
        reached: Asked again and again.
        moving: Gives what changes while there is progress.
        patience_s: Longest time without a change.
        waiting_for: For the error's message.
        poll_s: Seconds between two questions.

    Raises:
        StalledError: Nothing moved for `patience_s`.
    """
    loop = asyncio.get_running_loop()
    last, moved_s = None, loop.time()
    while not await reached():
        now = await moving()
        if now != last:
            last, moved_s = now, loop.time()
        elif loop.time() - moved_s > patience_s:
            raise StalledError(waiting_for=waiting_for, seconds=loop.time() - moved_s)
        await asyncio.sleep(poll_s)
