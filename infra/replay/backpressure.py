"""Hold the replayer back: for the learner's sake, and so that the embedded broker never drops what is still unread."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from infra.replay.errors import StalledError
from streams.replayer import Sent

POLL_S = 0.05
EMBEDDED_PARTITION_BYTES = 5 * 1024 * 1024  # what the embedded broker keeps (PITFALLS 3)
SAFE_SHARE = 0.4  # of it may be unread; the rest is for what the estimate does not see
ROUNDS_AHEAD = 1.5  # while one round runs, the next may gather, and half of another so that nobody idles when it ends
INTERACTION_GROWTH = 1.6  # an interaction as JSON is this much larger than its event, at most


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """How far the pipeline is, all counts since the replay began."""

    by_partition: dict[int, int]  # events of each partition that the ledger covers
    applied: int = 0  # of these
    late: int = 0  # of these; learned from, but in no feature
    rejected: int = 0  # of these; dead letters
    by_item: int = 0  # applied ones that are in item features too
    learned: int | None = None  # interactions the learner has applied; None: nobody knows at the moment
    since_trigger: int = 0  # of these, those that came after the last round was triggered
    rounds_behind: int = 0  # rounds due and not ended, the running one included

    @property
    def events(self) -> int:
        """Events that the ledger covers."""
        return sum(self.by_partition.values())

    @property
    def interactions(self) -> int:
        """What the learner has to consume."""
        return self.applied + self.late


@dataclass(kw_only=True)
class BackPressure:
    """Decide whether more events may be sent.

    Args:
        consumed: Asks the pipeline how far it is.
        embedded: Whether the broker is the embedded one, which forgets.
        round_interactions: Interactions of a learning round; None: there is no learner to wait for.
        poll_s: Seconds between two questions while holding.
        patience_s: Longest hold without any progress.
    """

    consumed: Callable[[], Awaitable[Consumed]]
    embedded: bool
    round_interactions: int | None
    poll_s: float = POLL_S
    patience_s: float = 180.0
    held_s: dict[str, float] = field(default_factory=dict)  # by reason

    async def room(self, sent: Sent, events: int) -> None:
        """Return when `events` more may be sent.

        Raises:
            StalledError: Nothing moved for `patience_s`.
        """
        last, moved_s = None, time.monotonic()
        while True:
            consumed = await self.consumed()
            reason = self.reason(sent, events, consumed)
            if reason is None:
                return
            now_s = time.monotonic()
            if consumed != last:
                last, moved_s = consumed, now_s
            elif now_s - moved_s > self.patience_s:
                raise StalledError(waiting_for=reason, seconds=now_s - moved_s)
            await asyncio.sleep(self.poll_s)
            self.held_s[reason] = self.held_s.get(reason, 0.0) + time.monotonic() - now_s

    def reason(self, sent: Sent, events: int, consumed: Consumed) -> str | None:
        """What there is to wait for; None: nothing.

        >>> async def nobody() -> Consumed: ...
        >>> pressure = BackPressure(consumed=nobody, embedded=True, round_interactions=8_000)
        >>> far_ahead = Consumed(by_partition={0: 19_000}, applied=19_000, learned=15_000, since_trigger=8_000)
        >>> pressure.reason(Sent(events=19_001), 500, far_ahead)
        'the learner, which is a round behind'
        """
        unread = {
            partition: count - consumed.by_partition.get(partition, 0) for partition, count in sent.by_partition.items()
        }
        in_flight = sent.events - consumed.events
        if self.round_interactions is not None:
            if consumed.learned is None:
                return "the learner, which does not answer"
            gathering = in_flight + consumed.interactions - consumed.learned + consumed.since_trigger
            if gathering > self.round_interactions * ROUNDS_AHEAD:
                return "the learner, which is a round behind"
        if not self.embedded or not in_flight:
            return None
        # in the worst case all of the next events are of one partition, and all interactions of one item's
        size = max(sent.largest_bytes, 1.0)
        if (max(unread.values()) + events) * size > EMBEDDED_PARTITION_BYTES * SAFE_SHARE:
            return "the worker, before the broker forgets events"
        behind = in_flight + consumed.applied - consumed.by_item
        if (behind + events) * size * INTERACTION_GROWTH > EMBEDDED_PARTITION_BYTES:
            return "item features, before the broker forgets interactions"
        return None
