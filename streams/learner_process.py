"""The learner's process: reads what happened, scores before it learns, and tells the world (`alluvium learner`).

    interactions.validated -> score, then learn -> quality.metrics, drift.metrics, experts.updates
                           -> a round is due    -> child process -> gate -> models.releases

One coroutine, `LearnerProcess._learn`, decides everything, in order; whatever blocks runs on the thread it belongs to.
A checkpoint holds the learner's state and the offsets it has seen, and is written only after Kafka has acknowledged all
that the state no longer holds. So after a kill at any moment, each interaction is in the state exactly once.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from learners.errors import LearnerError
from learners.items.shelf import Describers
from learners.learner import Learner, LearnerConfig
from learners.releases.registry import Registry
from learners.releases.release import LoadedRelease, load_release
from streams.batches import RecordBatch, pieces
from streams.clients import KafkaConnection, cluster_id
from streams.health import HealthServer, Watchdog
from streams.learning.announcements import Announcer
from streams.learning.checkpoint import Checkpoints
from streams.learning.config import LearnerProcessConfig
from streams.learning.describing import Describing
from streams.learning.feeds import Feed, first_offsets, live_keys
from streams.learning.findings import Findings
from streams.learning.growing import Growing
from streams.learning.inbox import Inbox
from streams.learning.keeping import Keeping
from streams.learning.lifecycle import Lifecycle
from streams.learning.lock import DeploymentLock
from streams.learning.position import Position, Tracker
from streams.learning.progress import Progress
from streams.learning.releasing import Releasing
from streams.learning.round_records import RoundRecords
from streams.learning.rounds import Rounds
from streams.learning.study import Study
from streams.learning.threads import Threads
from streams.reader import Partition
from streams.stopping import ended, run_until_stopped
from streams.topics import (
    CATALOG_ITEMS,
    DRIFT_METRICS,
    EXPERTS_UPDATES,
    INTERACTIONS_VALIDATED,
    QUALITY_METRICS,
    USERS_ERASURES,
)

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
PIECE = 256  # interactions between two looks at what is due


async def run_learner(
    *,
    connection: KafkaConnection,
    postgres_url: str,
    data_dir: Path,
    learner: LearnerConfig,
    describers: Describers,
    seed: int = 0,
    config: LearnerProcessConfig | None = None,
    keeping: Keeping | None = None,
    http_host: str = "127.0.0.1",
    http_port: int = 0,
    port_file: Path | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> int:
    """Run the learner until SIGTERM or SIGINT; returns the exit status.

    Args:
        connection: Where Kafka is.
        postgres_url: Where releases and rounds are recorded, and the lock that keeps learners single.
        data_dir: Holds `models/`, `checkpoints/` and `rounds/`; must outlive the process.
        learner: What and how to learn.
        describers: Of items; their layout is `learner.model.layout`.
        seed: Of every random choice of a learner that starts from nothing.
        config: Intervals and patience.
        keeping: Keeps knowledge that outlives the models; None: nobody does.
        http_host: Address of `/healthz`, `/metrics` and `/progress`.
        http_port: Its port; 0 takes any free one.
        port_file: Receives the chosen port.
        registry: Of Prometheus.

    Raises:
        LearnerBusyError: If another learner holds the deployment.
        KafkaUnavailableError: If Kafka does not answer at start, or stays away.
        StreamsError: Whatever else ends the process; the next start resumes at the last checkpoint.
    """
    process = LearnerProcess(
        connection=connection,
        postgres_url=postgres_url,
        data_dir=data_dir,
        learner=learner,
        describers=describers,
        seed=seed,
        config=config or LearnerProcessConfig(),
        keeping=keeping or Keeping(),
    )
    health = HealthServer(
        http_host,
        http_port,
        ready=lambda: process.progress.waits_for,
        watchdog=process.watchdog(),
        routes={"/progress": process.progress.describe},
        registry=registry,
        port_file=port_file,
    )
    return await run_until_stopped(process, health)


class LearnerProcess:
    """The learner's parts and the order in which they act; arguments as in `run_learner`."""

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        postgres_url: str,
        data_dir: Path,
        learner: LearnerConfig,
        describers: Describers,
        seed: int,
        config: LearnerProcessConfig,
        keeping: Keeping,
    ) -> None:
        self.stopping = asyncio.Event()
        self.progress = Progress()
        self._connection, self._config = connection, config
        self._learner_config, self._seed = learner, seed
        self._threads = Threads()
        self._keeping = keeping
        self._growing = Growing(lambda new: self._threads.knowledge(keeping.grow, new))
        self._lock = DeploymentLock(postgres_url)
        self._registry = Registry(postgres_url=postgres_url, root=data_dir / "models")
        self._checkpoints = Checkpoints(data_dir / "checkpoints")
        self._inbox = Inbox()
        self._announcer = Announcer(connection=connection)
        self._describing = Describing(describers, encoded=self._describe, patience_s=config.picture_patience_s)
        self._lifecycle = Lifecycle(
            threads=self._threads,
            rounds=Rounds(
                data_dir / "rounds",
                timeout_s=config.round_timeout_s,
                heartbeat_timeout_s=config.heartbeat_timeout_s,
            ),
            releases=Releasing(self._registry, keep_versions=config.keep_versions),
            records=RoundRecords(postgres_url),
            announcer=self._announcer,
            keeping=keeping,
            checkpoint=self._checkpoint,
        )
        self._study: Study
        self._tasks: asyncio.TaskGroup
        self._reading: list[asyncio.Task[None]] = []
        self._feed: Feed | None = None
        self._saved = -1  # pieces processed when the newest checkpoint was written
        self._updated_at = self._followed_at = self._checkpointed_at = time.monotonic()

    def watchdog(self) -> Watchdog:
        """Notices when interactions wait and none is learned."""
        return Watchdog(
            lag=lambda: self.progress.lag,
            processed=lambda: self.progress.processed,
            stall_s=self._config.stall_s,
            exit_s=self._config.exit_s,
        )

    async def run(self) -> None:
        """Learn until `stopping` is set, then write a last checkpoint."""
        self.progress.waits_for = "another learner to end"
        await self._threads.database(self._lock.acquire, wait_s=self._config.lock_wait_s)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                background = [
                    self._tasks.create_task(self._announcer.run(), name="announcer"),
                    self._tasks.create_task(self._look_around(), name="look around"),
                    *self._describing.begin(self._tasks),
                ]
                await self._main()
                await ended((*background, *self._reading))
        except BaseExceptionGroup as group:  # whichever part fails, the process ends with its error
            raise group.exceptions[0] from None

    async def close(self) -> None:
        """Stop training, let go of the lock, end the threads."""
        self._growing.stop()
        await self._lifecycle.stop()
        with contextlib.suppress(Exception):
            await self._threads.database(self._lock.release)
        self._threads.stop()

    # ---- the story

    async def _main(self) -> None:
        await self._lifecycle.prepare()
        await self._open()
        await self._catch_up()
        await self._lifecycle.resume(self._study)
        await self._publish_everything()
        await self._checkpoint()
        await self._learn()
        await self._lifecycle.stop()
        await self._checkpoint()

    async def _learn(self) -> None:
        """Take what comes, piece by piece, and after each piece look at what is due."""
        tracker = self._study.tracker
        start = await first_offsets(
            self._connection, INTERACTIONS_VALIDATED, tracker.offsets.get(INTERACTIONS_VALIDATED, {})
        )
        self._feed = self._read(INTERACTIONS_VALIDATED, start=start)
        self.progress.waits_for = None
        while not self.stopping.is_set():
            await self._take(await self._inbox.take(wait_s=0.1))

    async def _take(self, batch: RecordBatch | None) -> None:
        for piece in pieces(batch, PIECE) if batch is not None else [None]:
            found = await self._threads.learning.run(self._handle, piece)
            await self._hand_on(piece, found)
            self.progress.note(found, sequence=self._lifecycle.sequence, pending=self._lifecycle.pending)
            self.progress.processed += piece is not None
            self._describing.add(found)
            await self._announcer.put(QUALITY_METRICS, found.metric_records)
            await self._announcer.put(DRIFT_METRICS, found.drift_records)
            await self._see_to(found)

    async def _hand_on(self, piece: RecordBatch | None, found: Findings) -> None:
        """Tell those who keep knowledge, before any checkpoint says that it was told."""
        if found.forgotten:
            await self._growing.drained()  # what it remembers of them goes, not what it is yet to remember
            await self._threads.knowledge(self._keeping.forget, found.forgotten)
        if self._keeping.grows:
            await self._growing.put(found.learned_from)
            if piece is not None and piece.topic == CATALOG_ITEMS:
                await self._threads.knowledge(self._keeping.take_catalogue, piece)

    async def _see_to(self, found: Findings) -> None:
        """Do whatever is due."""
        now, config = time.monotonic(), self._config
        if self._feed is None:
            return  # still catching up: nothing is learned yet
        if now - self._updated_at >= config.updates_interval_s:
            await self._publish_updates()
        if found.roll_back is not None:
            await self._lifecycle.roll_back(found.roll_back)
        elif await self._lifecycle.settle():
            await self._publish_updates()
        elif found.trigger is not None and self._lifecycle.pending is None and self._describing.settled():
            await self._lifecycle.begin(found.trigger)
        elif now - self._followed_at >= config.registry_interval_s:
            await self._lifecycle.follow()
            self._followed_at = time.monotonic()
        if now - self._checkpointed_at >= config.checkpoint_interval_s and self.progress.processed != self._saved:
            await self._checkpoint()

    # ---- on the learning thread

    def _handle(self, batch: RecordBatch | None) -> Findings:
        if batch is not None and batch.topic == INTERACTIONS_VALIDATED:
            self._study.take_interactions(batch)
        elif batch is not None and batch.topic == CATALOG_ITEMS:
            self._study.take_catalogue(batch)
        elif batch is not None:
            self._study.take_erasures(batch)
        return self._study.findings()

    def _create(self) -> Study:
        """Load the newest checkpoint, or begin with nothing."""
        learner = Learner(catalog=self._describing.catalogue(), config=self._learner_config, seed=self._seed)
        position = Position(lineage=uuid4().hex[:12], cluster_id="")
        if (found := self._checkpoints.newest()) is not None:
            state, position = found
            learner.load(state, release_of=self._release_of)
            log.info("checkpoint_loaded", interactions=learner.interactions, offsets=position.offsets)
        return Study(
            learner=learner,
            tracker=Tracker(position),
            rows=self._describing.rows,
            clock_ms=lambda: time.time_ns() // 1_000_000,
        )

    def _release_of(self, version: int) -> LoadedRelease | None:
        try:
            row = self._registry.show(version)
            return load_release(row.uri, sha256=row.sha256)
        except LearnerError as error:
            log.warning("release_unusable", version=version, error=str(error))
            return None

    # ---- start

    async def _open(self) -> None:
        self.progress.waits_for = "the checkpoint"
        self._study = await self._threads.learning.run(self._create)
        identity = await cluster_id(self._connection)
        if self._study.tracker.follow(identity):
            log.info("cluster_new", cluster_id=identity)
        await self._threads.knowledge(self._keeping.prepare, identity)
        await self._threads.knowledge(self._keeping.forget, self._study.tracker.erasures.all())

    async def _catch_up(self) -> None:
        """Know the whole catalogue and everybody who asked to be forgotten, before the first interaction."""
        self.progress.waits_for = "the catalogue"
        shared = self._read(CATALOG_ITEMS, USERS_ERASURES)
        while not (shared.caught_up.is_set() or self.stopping.is_set()):
            await self._take(await self._inbox.take(wait_s=0.05))
        if self._study.learner.ranker.model_version:
            self.progress.waits_for = "the text encoder"  # a release scores new items by their texts, as it did before
            await self._describing.idle()
        self._study.caught_up = True

    async def _publish_everything(self) -> None:
        """Give workers a whole copy of what experts know, and take back what an earlier learner left."""
        left = await live_keys(self._connection)
        records = await self._threads.learning.run(self._study.full_copy)
        await self._announcer.put(EXPERTS_UPDATES, [*records, *self._study.log.forget_strangers(left)])

    def _read(self, *topics: str, start: Mapping[Partition, int] | None = None) -> Feed:
        feed = Feed(connection=self._connection, topics=topics, inbox=self._inbox, start=start)
        self._reading.append(self._tasks.create_task(feed.run(), name=f"reading {', '.join(topics)}"))
        return feed

    # ---- now and then

    async def _publish_updates(self) -> None:
        records = await self._threads.learning.run(self._study.updates)
        await self._announcer.put(EXPERTS_UPDATES, records)
        self._updated_at = time.monotonic()
        written = self._study.log
        self.progress.updates, self.progress.update_bytes = written.records, written.written_bytes

    async def _describe(self) -> None:
        await self._threads.learning.run(self._study.describe)

    async def _checkpoint(self) -> None:
        """Make durable what was learned, once Kafka has all that was said of it."""
        began, processed = time.monotonic(), self.progress.processed
        await self._publish_updates()
        staged, position = await self._threads.learning.run(self._study.stage, self._checkpoints)
        await self._announcer.flush()
        await self._growing.drained()
        size_bytes = await self._threads.disk.run(self._checkpoints.commit, staged, position)
        self._checkpointed_at, self._saved = time.monotonic(), processed
        self.progress.live_bytes = self._study.log.live_bytes
        self.progress.checkpointed(size_bytes=size_bytes, took_s=self._checkpointed_at - began)

    async def _look_around(self) -> None:
        """Keep an eye on what is not of the stream: the lock, the lag, the running round."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._threads.database(self._lock.check)
            progress, lifecycle = self.progress, self._lifecycle
            if self._feed is not None and (lag := self._feed.lag) is not None:
                progress.lag = lag + self._inbox.records
            progress.knowledge, progress.start = self._keeping.counts, lifecycle.start
            progress.announcements_waiting = self._announcer.waiting
            progress.round_steps = lifecycle.steps
            progress.pictures = self._describing.pictures
            progress.gauge()
