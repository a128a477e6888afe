"""One replay from beginning to end: start everything, send the log, kill on demand, drain, hold count against count."""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.deployment import Deployment
from infra.replay.backpressure import BackPressure
from infra.replay.checks import Checker
from infra.replay.drain import PATIENCE_S, Drain, nothing
from infra.replay.feed import Feed
from infra.replay.kills import Kill, plan
from infra.replay.memory import PeakMemory
from infra.replay.options import ReplayOptions
from infra.replay.progress import ProgressBar
from infra.replay.report import Facts, build
from infra.replay.summary import show
from infra.replay.watch import Watch, learned_by, until
from infra.settings import Settings
from streams.audit import AUDITED, MOCK_API_VERSION, Audit, end_offsets
from streams.eventlog import catalog_file, event_log
from streams.learning.round_records import read_rounds
from streams.publisher import Publisher
from streams.replayer import Replayer, Sent, publish_catalogue
from streams.stopping import ended
from streams.topics import CLICKSTREAM_EVENTS

WATCH_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """Something to do to the running system once `after_events` events were sent; the replay does not wait for it."""

    after_events: int
    act: Callable[["Run"], Awaitable[None]]


def replay(
    options: ReplayOptions, settings: Settings, *, console: Console, interventions: Sequence[Intervention] = ()
) -> dict[str, Any]:
    """Replay a log through a whole running system; embedded parts are started where no address is set.

    Args:
        options: What to do.
        settings: As for any process.
        console: Where progress and the summary go.
        interventions: What else to do to the system meanwhile.

    Returns:
        The report, as JSON-able values; `report["ok"]` says whether every count and every feature agreed.

    Raises:
        LogFileError: A file cannot be read.
        InfraError: Something did not start, or stopped moving.
    """
    begun_s = time.monotonic()
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # the witness's client tells of every busy moment
    event_log(options.events, encoding=options.encoding)  # what cannot be read is better known before anything starts
    catalog = catalog_file(options.catalog, encoding=options.encoding)
    settings = with_own_folder(settings)
    with Deployment(settings=settings, workers=options.workers, has_learner=options.learner) as deployment:
        console.log("starting Kafka and Postgres" if settings.kafka.bootstrap_servers is None else "connecting")
        deployment.start_stores()
        items = asyncio.run(publish_catalogue(deployment.connection, catalog))
        console.log(f"published {items:,} items; starting {options.workers} worker(s) and the learner")
        deployment.start_processes()
        started_s = time.monotonic() - begun_s
        report = asyncio.run(Run(options, deployment, console=console, interventions=interventions).run())
    report |= {"start_s": started_s, "total_s": time.monotonic() - begun_s}
    show(report, console)
    return report


def with_own_folder(settings: Settings) -> Settings:
    """Settings whose data folder is new where the broker or the database is: what was learned elsewhere must go."""
    if settings.kafka.bootstrap_servers is not None and settings.postgres.url is not None:
        return settings
    folder = settings.data_dir / "replay"
    shutil.rmtree(folder, ignore_errors=True)
    return settings.model_copy(update={"data_dir": folder})


class Run:
    """A replay on a deployment that is ready.

    Args:
        options: What to do.
        deployment: Its processes are running.
        console: Where progress is shown.
        interventions: What to do on the way, beside the kills of the options.
    """

    def __init__(
        self,
        options: ReplayOptions,
        deployment: Deployment,
        *,
        console: Console,
        interventions: Sequence[Intervention] = (),
    ) -> None:
        self.options, self.deployment, self.console = options, deployment, console
        self.embedded = deployment.embedded_kafka is not None
        self.settings = deployment.settings
        self.watch = Watch(
            postgres_url=deployment.postgres_url,
            cluster_id=deployment.cluster_id,
            learner_url=deployment.learner_url,
            worker_urls=deployment.worker_urls,
            round_interactions=self.settings.learning.round_interactions,
        )
        self.pressure = BackPressure(
            consumed=self.watch.consumed,
            embedded=self.embedded,
            round_interactions=self.settings.learning.round_interactions if options.learner else None,
            patience_s=PATIENCE_S,
        )
        self.feed = Feed(self.pressure)
        self.log = event_log(options.events, limit=options.limit, encoding=options.encoding)
        self.due = sorted([*interventions, *self._kills()], key=lambda intervention: intervention.after_events)
        self.acting: list[asyncio.Task[None]] = []
        self.kills: list[dict[str, Any]] = []
        self.kafka_options: dict[str, Any] = deployment.connection.kafka_python()
        if self.embedded:
            self.kafka_options["api_version"] = MOCK_API_VERSION
        self.sent = Sent()

    async def run(self) -> dict[str, Any]:
        """Replay, drain and report."""
        await self.watch.begin()
        audit = Audit(options=self.kafka_options, start=await self._audit_start())
        self.drain = Drain(
            watch=self.watch,
            sent=lambda: self.sent.events,
            witnessed_rejections=lambda: len(audit.findings.dead_sources),
            has_learner=self.options.learner,
            round_timeout_s=self.settings.learning.round_timeout_s,
        )
        self.checker = Checker(
            encoding=self.options.encoding,
            events=self.options.events,
            postgres_url=self.deployment.postgres_url,
            found=lambda: audit.findings,
            allowed_lateness_ms=self.settings.ingest.allowed_lateness_s * 1000,
            history_length=self.settings.features.history_length,
            sample=self.options.sample,
            seed=self.options.seed,
        )
        begun_s = time.monotonic()
        with (
            audit,
            PeakMemory(self._pids) as memory,
            ProgressBar(self.console, total=self.log.total, learning=self.options.learner) as bar,
        ):
            watching = asyncio.create_task(self._keep_watching(bar))
            try:
                await self._send(bar)
                await self.drain.ingested()
                ingest_s = time.monotonic() - begun_s
                await asyncio.gather(*self.acting)
                await self.drain.learned()
                wall_s = time.monotonic() - begun_s
                await self.drain.swapped()
            finally:
                await ended((watching, *self.acting))
            await self.checker.check("at the end", events=self.sent.events)
            found = await asyncio.to_thread(audit.stop)
        learner = await self.watch.learner()
        facts = Facts(
            ledger=await self.watch.ledger(),
            before=self.watch.before,
            found=found,
            sent=self.sent.events,
            learned=None if learner is None else learned_by(learner),
            rounds=await asyncio.to_thread(read_rounds, self.deployment.postgres_url),
            swaps=list(self.watch.swaps.values()),
            ingest_s=ingest_s,
            wall_s=wall_s,
            extra=self._extra(memory.peak_bytes, learner),
        )
        report = build(facts)
        identical = all(not result["differences"] for result in self.checker.results)
        return {"ok": report["reconcile"]["holds"] and identical} | report

    async def _audit_start(self) -> dict[tuple[str, int], int]:
        """Where the witness begins: events where the ledger ends, all else at its end; on a new broker that is zero."""
        if self.embedded:
            return {}
        start = await asyncio.to_thread(end_offsets, self.kafka_options, AUDITED)
        ledger = self.watch.before.get(CLICKSTREAM_EVENTS, {}).get("next_offset", {})
        return start | {(CLICKSTREAM_EVENTS, partition): offset for partition, offset in ledger.items() if offset}

    async def _send(self, bar: ProgressBar) -> None:
        def on_sent(sent: Sent) -> None:
            bar.sent(sent.events)
            while self.due and self.due[0].after_events <= sent.events:
                self.acting.append(asyncio.ensure_future(self.due.pop(0).act(self)))

        async with Publisher(connection=self.deployment.connection, client_id="alluvium-replay") as publisher:
            replayer = Replayer(
                sender=publisher,
                partition_of=await publisher.partitioner(CLICKSTREAM_EVENTS),
                speed=self.options.speed,
                room=self.feed.room,
                on_sent=on_sent,
            )
            self.sent = replayer.sent
            try:
                await replayer.run(self.log)
            finally:
                self.feed.ended()

    def _kills(self) -> list[Intervention]:
        options = self.options
        kills = plan(
            events=self.log.count() if options.worker_kills or options.learner_kills else 0,
            workers=options.workers,
            worker_kills=options.worker_kills,
            learner_kills=options.learner_kills,
            seed=options.seed,
        )
        return [Intervention(after_events=kill.after_events, act=partial(Run._kill, kill=kill)) for kill in kills]

    async def _kill(self, kill: Kill) -> None:
        """Kill a process, wait for its successor, and check that nothing was lost or repeated."""
        supervisor = self.deployment.supervisor
        await asyncio.sleep(kill.delay_s)
        restarts, killed_s = supervisor.restarts(kill.process), time.monotonic()
        supervisor.kill(kill.process)

        async def back() -> bool:
            supervisor.check()
            return supervisor.restarts(kill.process) > restarts and await asyncio.to_thread(
                supervisor.is_ready, kill.process
            )

        await until(back, moving=nothing, patience_s=PATIENCE_S, waiting_for=f"{kill.process} after its kill")
        record = {"process": kill.process, "after_events": kill.after_events, "back_s": time.monotonic() - killed_s}
        self.kills.append(record)
        if kill.process in self.deployment.workers:
            await self.check_now(f"after kill {len(self.kills)} ({kill.process})")
            record["checked_s"] = time.monotonic() - killed_s

    async def check_now(self, moment: str) -> None:
        """Stop sending, wait until the features hold everything sent, and compare them with the recount."""
        async with self.feed.parked():
            await self.drain.featured()
            await self.checker.check(moment, events=self.sent.events)

    async def _keep_watching(self, bar: ProgressBar) -> None:
        while True:
            self.deployment.supervisor.check()
            await self.watch.note_swaps()
            bar.consumed(await self.watch.consumed())
            await asyncio.sleep(WATCH_S)

    def _pids(self) -> dict[str, int]:
        return {"replay": os.getpid(), **self.deployment.pids()}

    def _extra(self, peaks: dict[str, int], learner: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "events_file": {"unreadable": self.log.unreadable, "problems": self.log.problems},
            "kills": self.kills,
            "recounts": self.checker.results,
            "held_back_s": self.pressure.held_s,
            "memory": {"peak_bytes": peaks},
            "learner": learner,
            "seed": self.options.seed,
            "options": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self.options).items()},
            "settings": self.settings.model_dump(mode="json"),
        }
