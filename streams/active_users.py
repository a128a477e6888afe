"""Who was just active and waits for a fresh ranking: coalesced, so that a burst of events costs one ranking."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import msgspec

from streams.events import Interaction


class Activity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a person is to be ranked anew.

    `oldest_appended_at_ms` is the Kafka timestamp of the first event that waits; None when a release caused it.
    """

    user_id: str
    partition: int  # of the clickstream: whose worker has the person's state
    cause: str  # deterministic: the newest event's partition and offset, or the release
    event_time_ms: int | None
    oldest_appended_at_ms: int | None


class ActiveUsers:
    """A queue of people, each in it once, in order of their first waiting event.

    Args:
        capacity: Most people waiting; beyond it the one who waits longest is let go and counted.
        remembered: How many of those last active are ranked anew when a release is swapped in.
    """

    def __init__(self, *, capacity: int = 100_000, remembered: int = 2_000) -> None:
        self.capacity, self.remembered = capacity, remembered
        self.let_go = 0
        self._waiting: OrderedDict[str, Activity] = OrderedDict()
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, interactions: Sequence[Interaction]) -> None:
        """These people have just acted."""
        newest = {interaction.user_id: interaction for interaction in interactions}
        oldest = {interaction.user_id: interaction for interaction in reversed(interactions)}
        waiting = self._waiting
        for user_id, interaction in newest.items():
            before = waiting.get(user_id)
            appended_at_ms = None if before is None else before.oldest_appended_at_ms
            waiting[user_id] = Activity(
                user_id=user_id,
                partition=interaction.partition,
                cause=f"{interaction.partition}-{interaction.offset}",
                event_time_ms=interaction.event_time_ms,
                oldest_appended_at_ms=oldest[user_id].appended_at_ms if appended_at_ms is None else appended_at_ms,
            )
        latest = list(islice(oldest.items(), self.remembered))  # the last to act come first
        for user_id, interaction in reversed(latest):
            self._recent[user_id] = interaction.partition
            self._recent.move_to_end(user_id)
        self._trim()

    def refresh(self, cause: str) -> None:
        """Rank those last active anew, the most recent first, because of a release."""
        for user_id, partition in reversed(self._recent.items()):
            if user_id not in self._waiting:
                self._waiting[user_id] = Activity(
                    user_id=user_id, partition=partition, cause=cause, event_time_ms=None, oldest_appended_at_ms=None
                )
        self._trim()

    def forget(self, user_id: str) -> None:
        """Do not rank this person any more."""
        self._waiting.pop(user_id, None)
        self._recent.pop(user_id, None)

    async def take(self, most: int) -> list[Activity]:
        """Wait until someone waits, then hand out those who wait longest, events before refreshes.

        Args:
            most: Largest number handed out at once.
        """
        await self._some.wait()
        caused_by_events = [a for a in self._waiting.values() if a.oldest_appended_at_ms is not None][:most]
        chosen = caused_by_events or list(self._waiting.values())[:most]
        for activity in chosen:
            del self._waiting[activity.user_id]
        if not self._waiting:
            self._some.clear()
        return chosen

    def _trim(self) -> None:
        while len(self._waiting) > self.capacity:
            self._waiting.popitem(last=False)
            self.let_go += 1
        while len(self._recent) > self.remembered:
            self._recent.popitem(last=False)
        if self._waiting:
            self._some.set()
