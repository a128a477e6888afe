"""The life of a model: a round is triggered, trained, judged, released, adopted, and perhaps taken back.

Every step bears repeating, and a checkpoint names the round before it begins and after it is settled. A kill between
any two steps therefore leaves either the incumbent alone or a row in Postgres, from which the next start goes on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from learners.errors import LearnerError, RegistryUnavailableError
from learners.knowledge.starting import START
from learners.releases.registry import ReleaseRecord
from learners.releases.release import LoadedRelease, load_release
from learners.rounds.round import RoundResult
from learners.rounds.triggers import Trigger
from streams.learning.announcements import Announcer
from streams.learning.errors import DatabaseUnavailableError
from streams.learning.keeping import Keeping
from streams.learning.position import PendingRound
from streams.learning.releasing import ROUND, Releasing, wire
from streams.learning.round_records import Outcome, RoundRecords
from streams.learning.rounds import Rounds
from streams.learning.study import Study
from streams.learning.threads import Threads
from streams.topics import MODELS_RELEASES

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A released round whose knowledge is being kept."""

    pending: PendingRound
    result: RoundResult
    version: int
    task: asyncio.Future[None]


class Lifecycle:
    """Rounds and releases of one learner.

    Args:
        threads: Where blocking work runs.
        rounds: Trains.
        releases: The registry's side of it.
        records: Remembers every round.
        announcer: Speaks to Kafka.
        keeping: Keeps what released rounds learned.
        checkpoint: Writes a checkpoint.
    """

    def __init__(
        self,
        *,
        threads: Threads,
        rounds: Rounds,
        releases: Releasing,
        records: RoundRecords,
        announcer: Announcer,
        keeping: Keeping,
        checkpoint: Callable[[], Awaitable[None]],
    ) -> None:
        self._threads, self._rounds, self._releases = threads, rounds, releases
        self._records, self._announcer, self._checkpoint = records, announcer, checkpoint
        self._keeping = keeping
        self._kept: _Kept | None = None
        self.sequence = 0  # of the row whose release the learner has adopted
        self.start: Mapping[str, Any] | None = None  # what a first round began from and why, as far as it is known here
        self._cannot_return_from = -1
        self._study: Study
        self._pending: PendingRound | None = None

    @property
    def pending(self) -> PendingRound | None:
        """The round that is not settled."""
        return self._pending

    @property
    def steps(self) -> tuple[int, int]:
        """Optimizer steps of the running round."""
        return self._rounds.steps()

    # ---- start and stop

    async def prepare(self) -> None:
        """Make tables, bring pointer and directories in line with them, and publish again what may be missing."""
        await self._threads.database(self._records.prepare)
        current = await self._threads.database(self._releases.repair)
        await self._send_releases(also=current)

    async def resume(self, study: Study) -> None:
        """Follow the registry and take up the pending round, both as the checkpoint left them."""
        self._study = study
        position = study.tracker.position
        self.sequence, self._pending = position.sequence, position.pending
        await self._threads.disk.run(self._rounds.tidy, keep=self._pending)
        current = await self._threads.database(self._releases.current)
        if current is None:
            self.sequence = position.sequence = 0  # another database than the one the checkpoint was written beside
        elif (current.sequence, current.version) == (self.sequence, study.learner.ranker.model_version):
            await self._serve(current)
        else:
            await self._send_releases()  # it may be younger than what `prepare` sent
            await self._adopt(current)
        if self._pending is None:
            await self._threads.learning.run(study.learner.abandon_round)
        else:
            log.info("round_resumed", round=self._pending.key)
            await self._start(self._pending)

    async def stop(self) -> None:
        """Stop training and keeping; the next start repeats the round, or what is left of it."""
        if self._kept is not None:
            self._kept.task.cancel()
            self._kept = None
        await self._threads.disk.run(self._rounds.abandon)

    # ---- rounds

    async def begin(self, trigger: Trigger) -> None:
        """Start a round."""
        pending, round_input = await self._threads.learning.run(self._study.begin_round, trigger)
        self._pending = pending
        donors = await self._threads.knowledge(self._keeping.donors, round_input)
        await self._threads.disk.run(self._rounds.prepare, pending, round_input, donors=donors)
        await self._checkpoint()
        log.info("round_triggered", round=pending.key, trigger=trigger.kind, detail=trigger.detail)
        await self._start(pending)

    async def settle(self) -> bool:
        """Bring a finished round one step nearer to its end; False while there is nothing to do."""
        if self._kept is not None:
            return await self._settle_kept(self._kept)
        if self._pending is None or not self._rounds.finished:
            return False
        pending = self._pending
        try:
            result = await self._threads.disk.run(self._rounds.result, pending)
            self._note_start(pending, result)
            if result.outcome != "passed":
                await self._end(pending, result.outcome, result=result)
                return True
            record = await self._threads.database(self._releases.release, pending, result)
        except (DatabaseUnavailableError, RegistryUnavailableError):
            raise
        except LearnerError as error:
            await self._end(pending, "failed", error=str(error))
            return True
        await self._send_releases()
        if record.sequence > self.sequence:
            await self._adopt(record)
        # the round stays pending until it is kept: whatever ends the process before, the next start keeps it
        keep = self._threads.knowledge(self._keep, record, pending)
        self._kept = _Kept(pending, result, record.version, asyncio.ensure_future(keep))
        return True

    def _note_start(self, pending: PendingRound, result: RoundResult) -> None:
        """Say what a first round chose to begin from."""
        if (start := result.facts.get(START)) is None:
            return
        self.start = start
        for trial in start["trials"]:
            if trial["refused"]:
                log.warning("knowledge_donor_refused", entry=trial["entry_id"], error=trial["refused"])
        figures = {name: result.metrics.get(name) for name in ("trial_scratch", "trial_chosen")}
        said = {"entry": start["entry_id"], "epochs": start["epochs"], "donors": len(start["trials"]) - 1}
        log.info("start_chosen", round=pending.key, **said, **figures)

    def _keep(self, record: ReleaseRecord, pending: PendingRound) -> None:
        try:
            round_input = self._rounds.input(pending)
        except LearnerError as error:
            log.warning("knowledge_not_kept", round=pending.key, error=str(error))
            return
        self._keeping.keep(record, round_input, round_key=pending.key)

    async def _settle_kept(self, kept: "_Kept") -> bool:
        if not kept.task.done():
            return False
        self._kept = None
        kept.task.result()
        await self._end(kept.pending, "passed", result=kept.result, version=kept.version)
        return True

    async def _start(self, pending: PendingRound) -> None:
        await self._threads.database(self._records.note, pending, "running")
        try:
            await self._threads.disk.run(self._rounds.begin, pending)
        except LearnerError as error:
            await self._end(pending, "failed", error=str(error))

    async def _end(
        self,
        pending: PendingRound,
        outcome: Outcome,
        *,
        result: RoundResult | None = None,
        version: int | None = None,
        error: str | None = None,
    ) -> None:
        await self._threads.database(
            self._records.note,
            pending,
            outcome,
            version=version,
            verdict=None if result is None else dict(result.verdict),
            training=None if result is None else dict(result.training),
            error=error,
            finished_at_ms=time.time_ns() // 1_000_000,
        )
        await self._threads.learning.run(self._study.end_round, outcome)
        self._pending = None
        log.info("round_ended", round=pending.key, outcome=outcome, version=version, error=error)
        await self._checkpoint()
        await self._threads.disk.run(self._rounds.tidy, keep=None)

    # ---- releases

    async def roll_back(self, evidence: dict[str, Any]) -> None:
        """Return to the version that the evidence names."""
        if self._cannot_return_from == self.sequence:
            return  # said once; what serves is what there is
        log.warning("release_rolled_back", **evidence)
        decided_at_ms = time.time_ns() // 1_000_000
        try:
            await self._threads.database(self._releases.roll_back, evidence, decided_at_ms=decided_at_ms)
        except (DatabaseUnavailableError, RegistryUnavailableError):
            raise
        except LearnerError as error:
            self._cannot_return_from = self.sequence
            log.warning("rollback_impossible", error=str(error))
        await self.follow()

    async def follow(self) -> None:
        """Adopt whatever the registry says must serve, whoever said so."""
        current = await self._threads.database(self._releases.current)
        await self._send_releases()  # whatever is adopted below is among them, also if the process ends right after
        if current is None or current.sequence <= self.sequence:
            return
        if self._pending is not None and current.verdict.get(ROUND, {}).get("key") != self._pending.key:
            # it learns from, and is judged against, a model that no longer serves; what it took must wait again
            await self._threads.disk.run(self._rounds.kill)
            await self.settle()
        await self._adopt(current)
        await self._checkpoint()

    async def _send_releases(self, *, also: ReleaseRecord | None = None) -> None:
        waiting = await self._threads.database(self._releases.outbox)
        if also is not None and also.sequence not in {record.sequence for record in waiting}:
            waiting.insert(0, also)
        for record in waiting:
            await self._announcer.put(MODELS_RELEASES, [wire(record)])
            await self._announcer.flush()
            await self._threads.database(self._releases.sent, record)

    async def _adopt(self, record: ReleaseRecord) -> None:
        release = await self._load(record)
        self.sequence = record.sequence  # of a damaged release too: there is nothing to try again
        if release is not None:
            await self._threads.learning.run(self._study.adopt, record, release)
            log.info("release_adopted", version=record.version, sequence=record.sequence, kind=record.kind)

    async def _serve(self, record: ReleaseRecord) -> None:
        if (release := await self._load(record)) is not None:
            await self._threads.learning.run(self._study.serve, record, release)

    async def _load(self, record: ReleaseRecord) -> LoadedRelease | None:
        try:
            release = await self._threads.disk.run(load_release, record.uri, sha256=record.sha256)
        except LearnerError as error:
            log.warning("release_unusable", version=record.version, error=str(error))
            return None
        self.start = release.manifest["facts"].get(START, self.start)
        return release
