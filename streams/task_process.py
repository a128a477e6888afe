"""The process of tasks: examples in, predictions out, a round whenever enough labels came (`alluvium task-worker`).

    tasks.examples -> validate -> predict, then judge -> tasks.predictions, quality.metrics
                   -> enough labels -> a round: replay, a copy trained, the gate -> what serves, and the knowledge store

Several tasks learn jointly: one reading, one round, one checkpoint for all. A checkpoint holds the learner, what waits
for a round and the offsets, and is written only after Kafka has acknowledged all that was said. After a kill at any
moment each example is in the state exactly once, and what is said again has the same ids. Everybody who asked to be
forgotten (`users.erasures`, read whole) is known before the first example.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from learners.tasks.sharing import ENCODER, check_shared
from learners.tasks.task import Task
from streams.batches import RecordBatch, pieces
from streams.clients import KafkaConnection, cluster_id
from streams.dead_letters import shortened
from streams.errors import KafkaUnavailableError, NotDeliveredError
from streams.health import HealthServer, Watchdog
from streams.learning.checkpoint import Checkpoints
from streams.learning.feeds import Feed, first_offsets
from streams.learning.inbox import Inbox
from streams.learning.position import Position, Tracker
from streams.publisher import Outgoing, Publisher
from streams.reader import Partition
from streams.stopping import ended, run_until_stopped
from streams.tasks.errors import TaskBusyError
from streams.tasks.study import Found, Learn, TaskStudy, beginner
from streams.threads import DedicatedThread
from streams.topics import TASKS_EXAMPLES, USERS_ERASURES

log = structlog.get_logger(__name__)

PIECE = 256  # examples between two looks at what is due
_TO_DO = "remove the folder: the task learns with others now, and whoever is erased is not erased from there"
_MOST_BYTES = 200  # of the name of a folder; file systems take 255


@dataclass(frozen=True, kw_only=True)
class TaskWorkerConfig:
    """How a task's process runs.

    Args:
        round_examples: Labelled examples that make a round, of several tasks together; at least 4.
        checkpoint_interval_s: Between two checkpoints; above 0.
        give_up_after_s: How long Kafka may refuse what is published before the process ends.
        stall_s: Without progress for so long, though examples wait, `/healthz` says 503 ...
        exit_s: ... and for so long, the process ends itself; a round must fit in.
    """

    round_examples: int = 200
    checkpoint_interval_s: float = 10.0
    give_up_after_s: float = 300.0
    stall_s: float = 300.0
    exit_s: float = 1800.0


async def run_task_worker(
    *,
    connection: KafkaConnection,
    tasks: Sequence[Task],
    data_dir: Path,
    share: str = ENCODER,
    seed: int = 0,
    config: TaskWorkerConfig | None = None,
    learn: Learn | None = None,
    http_host: str = "127.0.0.1",
    http_port: int = 0,
    port_file: Path | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> int:
    """Answer and learn until SIGTERM or SIGINT; returns the exit status.

    Args:
        connection: Where Kafka is.
        tasks: The declaration, or several that learn jointly; their order does not matter.
        data_dir: Holds `tasks/KIND/NAME/`, of several `tasks/joint/NAME,NAME/`; must outlive the process.
        share: What several share, as in `JointLearner`.
        seed: Of every random choice.
        config: Sizes, intervals and patience.
        learn: Runs a round; None: the learner does. Where knowledge is kept and reused, that is done in here.
        http_host: Address of `/healthz`, `/metrics` and `/progress`.
        http_port: Its port; 0 takes any free one.
        port_file: Receives the chosen port.
        registry: Of Prometheus.

    Raises:
        InvalidTaskError: If the tasks cannot be learned jointly.
        TaskBusyError: If another worker holds a task's folder.
        TaskChangedError: If the checkpoint was learned under other declarations, or with another `share`.
        KafkaUnavailableError: If Kafka does not answer at start, or stays away.
    """
    process = TaskProcess(
        connection=connection,
        tasks=tasks,
        data_dir=data_dir,
        share=share,
        seed=seed,
        config=config or TaskWorkerConfig(),
        learn=learn,
    )
    health = HealthServer(
        http_host,
        http_port,
        ready=lambda: process.waits_for,
        watchdog=process.watchdog(),
        routes={"/progress": process.progress},
        registry=registry,
        port_file=port_file,
    )
    return await run_until_stopped(process, health)


class TaskProcess:
    """The process's parts and the order in which they act; arguments as in `run_task_worker`."""

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        tasks: Sequence[Task],
        data_dir: Path,
        seed: int,
        config: TaskWorkerConfig,
        share: str = ENCODER,
        learn: Learn | None = None,
    ) -> None:
        check_shared(tasks, share)
        self.stopping = asyncio.Event()
        self.waits_for: str | None = "the checkpoint"
        self.processed = 0
        self._connection, self._seed, self._config = connection, seed, config
        self._tasks, self._share = sorted(tasks, key=lambda task: task.name), share
        self._learn = learn
        self._data_dir = data_dir
        self._inbox = Inbox()
        self._thread = DedicatedThread("task")
        self._publisher: Publisher | None = None
        self._feed: Feed | None = None
        self._reading: list[asyncio.Task[None]] = []
        self._study: TaskStudy
        self._tracker: Tracker
        self._checkpoints: Checkpoints
        self._locks: list[IO[str]] = []
        self._saved, self._checkpointed_at = -1, time.monotonic()

    def watchdog(self) -> Watchdog:
        """Notices when examples wait and none is answered."""
        return Watchdog(
            lag=lambda: self.lag,
            processed=lambda: self.processed,
            stall_s=self._config.stall_s,
            exit_s=self._config.exit_s,
        )

    @property
    def lag(self) -> int:
        """Examples that wait; 0 while nobody knows."""
        return self._inbox.records + ((self._feed.lag or 0) if self._feed is not None else 0)

    def progress(self) -> dict[str, Any]:
        """What `/progress` says."""
        if self.waits_for is not None:
            return {"waits_for": self.waits_for}
        return {**self._study.describe(), "lag": self.lag, "counts": dict(self._study.counts)}

    async def run(self) -> None:
        """Answer until `stopping` is set, then write a last checkpoint."""
        self._take_locks()
        self._warn_of_left_over()
        await self._thread.run(self._open)
        if self._tracker.follow(await cluster_id(self._connection)):
            log.info("cluster_new", tasks=[task.key for task in self._tasks])
            await self._thread.run(self._study.leave_log)
        known = self._tracker.offsets.get(TASKS_EXAMPLES, {})
        start = await first_offsets(self._connection, TASKS_EXAMPLES, known)
        try:
            self.waits_for = "the erasures"  # who is forgotten must be known before the first example
            erasures = self._read(USERS_ERASURES)
            while not (erasures.caught_up.is_set() or self.stopping.is_set()):
                await self._look()
            self._feed = self._read(TASKS_EXAMPLES, start=start)
            await self._checkpoint()
            self.waits_for = None
            while not self.stopping.is_set():
                await self._look()
            await self._checkpoint()
        finally:
            await ended(self._reading)

    async def close(self) -> None:
        """Close connections, let go of the folder, end the thread."""
        await self._drop_publisher()
        self._thread.stop()
        for lock in self._locks:
            lock.close()

    def _read(self, topic: str, *, start: Mapping[Partition, int] | None = None) -> Feed:
        feed = Feed(connection=self._connection, topics=[topic], inbox=self._inbox, start=start)
        self._reading.append(asyncio.create_task(feed.run(), name=f"reading {topic}"))
        return feed

    async def _look(self) -> None:
        """Take what has come, if something has, and end where reading has ended."""
        await self._take(await self._inbox.take(wait_s=0.1))
        for task in self._reading:
            if task.done():
                task.result()

    async def _take(self, batch: RecordBatch | None) -> None:
        for piece in pieces(batch, PIECE) if batch is not None else []:
            if piece.topic == USERS_ERASURES:
                await self._thread.run(self._study.take_erasures, piece)
                self.processed += 1
                continue
            found: Found = await self._thread.run(self._study.take, piece)
            await self._publish(found.records)
            self._tracker.advance(piece.topic, piece.partition, piece.next_offset)
            self.processed += 1
            for outcomes in found.rounds:
                for name, outcome in outcomes.items():
                    log.info("task_round", task=name, released=outcome.released, reason=outcome.reason)
        due = time.monotonic() - self._checkpointed_at >= self._config.checkpoint_interval_s
        if due and self.processed != self._saved:
            await self._checkpoint()

    async def _publish(self, records: Sequence[Outgoing]) -> None:
        """Wait until Kafka has all records, through outages; what is sent twice has the same id."""
        give_up_at = time.monotonic() + self._config.give_up_after_s
        while records:
            try:
                async with self._connection.reaching("publishing"):
                    if self._publisher is None:
                        self._publisher = Publisher(connection=self._connection, client_id="alluvium-task")
                        await self._publisher.start()
                    await self._publisher.send(records, shorten=shortened)
                return
            except (KafkaUnavailableError, NotDeliveredError) as error:
                await self._drop_publisher()
                if time.monotonic() > give_up_at:
                    raise
                log.warning("publishing_delayed", records=len(records), error=str(error))
                await asyncio.sleep(getattr(error, "retry_after_s", 1.0))

    async def _drop_publisher(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with contextlib.suppress(KafkaUnavailableError):
                await publisher.stop()

    async def _checkpoint(self) -> None:
        await self._thread.run(self._write)
        self._saved, self._checkpointed_at = self.processed, time.monotonic()

    def _write(self) -> None:
        staged = self._checkpoints.stage(self._study.save)
        self._checkpoints.commit(staged, self._tracker.snapshot())

    def _open(self) -> None:
        """Load the newest checkpoint, or begin with nothing."""
        self._checkpoints = Checkpoints(self._root() / "checkpoints")
        newest = self._checkpoints.newest()
        if newest is None:
            self._tracker = Tracker(Position(lineage=uuid4().hex[:12], cluster_id=""))
            learner = beginner(self._tasks, share=self._share, seed=self._seed)
            self._study = TaskStudy(
                learner,
                round_examples=self._config.round_examples,
                learn=self._learn,
                erasures=self._tracker.erasures,
            )
            return
        folder, position = newest
        self._tracker = Tracker(position)
        self._study = TaskStudy.load(
            folder,
            self._tasks,
            share=self._share,
            round_examples=self._config.round_examples,
            learn=self._learn,
            erasures=self._tracker.erasures,
        )

    def _root(self) -> Path:
        """Where the state is: in the task's own folder, of several in one that is theirs together."""
        if len(self._tasks) == 1:
            return self._folder_of(self._tasks[0])
        name = ",".join(task.name for task in self._tasks)
        if len(name.encode()) > _MOST_BYTES:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return self._data_dir / "tasks" / "joint" / name

    def _folder_of(self, task: Task) -> Path:
        return self._data_dir / "tasks" / task.kind / task.name

    def _warn_of_left_over(self) -> None:
        """Name checkpoints that a task kept when it learned alone: what is erased from now on stays in them."""
        for task in self._tasks if len(self._tasks) > 1 else []:
            folder = self._folder_of(task) / "checkpoints"
            if folder.is_dir() and any(folder.iterdir()):
                log.warning("checkpoints_left_over", task=task.key, folder=str(folder), to_do=_TO_DO)

    def _take_locks(self) -> None:
        """Lock every task, so that none is answered twice, alone or with whichever others."""
        for folder in map(self._folder_of, self._tasks):
            folder.mkdir(parents=True, exist_ok=True)
            self._locks.append((folder / "lock").open("w"))
            try:
                fcntl.flock(self._locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TaskBusyError(path=folder) from error
