"""Hold Feast against a plain recount of the log, in the middle of a replay and at its end."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from feature_store.apply import close_store, open_store
from infra.recount import Comparison, compare, recount
from streams.audit import Findings
from streams.eventlog import event_log


@dataclass(kw_only=True)
class Checker:
    """Compares, and keeps what it found.

    Args:
        events: The log.
        encoding: Of it, if it is CSV; None: UTF-8.
        postgres_url: Where Feast is.
        found: What the independent consumer read so far; its dead letters are in no state.
        allowed_lateness_ms: As the workers have it.
        history_length: The same.
        sample: Users, and as many items, to compare.
        seed: Of their draw.
    """

    events: Path
    postgres_url: str
    found: Callable[[], Findings]
    allowed_lateness_ms: int
    history_length: int
    sample: int
    seed: int
    encoding: str | None = None
    erasures: dict[str, int] = field(default_factory=dict)  # people who were forgotten meanwhile, until when (ms)
    results: list[dict[str, Any]] = field(default_factory=list)

    async def check(self, moment: str, *, events: int) -> None:
        """Compare what the first `events` events of the log must have made with what Feast says."""
        comparison = await asyncio.to_thread(self._compare, events)
        self.results.append({"moment": moment, **asdict(comparison)})

    def _compare(self, events: int) -> Comparison:
        truth = recount(
            (event for chunk in event_log(self.events, limit=events, encoding=self.encoding) for event in chunk),
            allowed_lateness_ms=self.allowed_lateness_ms,
            rejected=set(self.found().dead_event_ids),
            erasures=self.erasures,
            history_length=self.history_length,
        )
        store = open_store(postgres_url=self.postgres_url)
        try:
            return compare(truth, store, sample=self.sample, seed=self.seed + len(self.results))
        finally:
            close_store(store)
