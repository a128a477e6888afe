"""The process of one task: examples in, predictions out, a round whenever enough labels came (`alluvium task-worker`).

    tasks.examples -> validate -> predict, then judge -> tasks.predictions, quality.metrics
                   -> enough labels -> a round: replay, a copy trained, the gate -> what serves, and the knowledge store

A checkpoint holds the learner, what waits for a round and the offsets, and is written only after Kafka has acknowledged
all that was said. After a kill at any moment each example is in the state exactly once, and what is said again has the
same ids.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from learners.tasks.learner import TaskLearner
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
from streams.tasks.errors import TaskBusyError
from streams.tasks.study import Found, Learn, TaskStudy
from streams.threads import DedicatedThread
from streams.topics import TASKS_EXAMPLES

log = structlog.get_logger(__name__)

STOP_DEADLINE_S = 45.0
PIECE = 256  # examples between two looks at what is due


@dataclass(frozen=True, kw_only=True)
class TaskWorkerConfig:
    """How a task's process runs.

    Args:
        round_examples: Labelled examples that make a round; at least 4.
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
    task: Task,
    data_dir: Path,
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
        task: The declaration.
        data_dir: Holds `tasks/KIND/NAME/`; must outlive the process.
        seed: Of every random choice.
        config: Sizes, intervals and patience.
        learn: Runs a round; None: the learner's own. Where knowledge is kept and reused, that is done in here.
        http_host: Address of `/healthz`, `/metrics` and `/progress`.
        http_port: Its port; 0 takes any free one.
        port_file: Receives the chosen port.
        registry: Of Prometheus.

    Raises:
        TaskBusyError: If another worker holds the task's folder.
        TaskChangedError: If the checkpoint was learned under another declaration.
        KafkaUnavailableError: If Kafka does not answer at start, or stays away.
    """
    process = TaskProcess(
        connection=connection, task=task, data_dir=data_dir, seed=seed, config=config or TaskWorkerConfig(), learn=learn
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
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stopping.set)
    await health.start()
    try:
        await process.run()
    finally:
        deadline = loop.call_later(STOP_DEADLINE_S, os._exit, 1)  # whatever hangs, the checkpoint knows how far we were
        await health.stop()
        await process.close()
        deadline.cancel()
    return 0


class TaskProcess:
    """The process's parts and the order in which they act; arguments as in `run_task_worker`."""

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        task: Task,
        data_dir: Path,
        seed: int,
        config: TaskWorkerConfig,
        learn: Learn | None = None,
    ) -> None:
        self.stopping = asyncio.Event()
        self.waits_for: str | None = "the checkpoint"
        self.processed = 0
        self._connection, self._task, self._seed, self._config = connection, task, seed, config
        self._learn = learn
        self._root = data_dir / "tasks" / task.kind / task.name
        self._inbox = Inbox()
        self._thread = DedicatedThread("task")
        self._publisher: Publisher | None = None
        self._feed: Feed | None = None
        self._study: TaskStudy
        self._tracker: Tracker
        self._checkpoints: Checkpoints
        self._lock: Any = None
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
        study = self._study
        return {
            "task": self._task.key,
            "version": study.learner.version,
            "waiting": len(study.waiting),
            "lag": self.lag,
            "counts": dict(study.counts),
        }

    async def run(self) -> None:
        """Answer until `stopping` is set, then write a last checkpoint."""
        self._take_lock()
        await self._thread.run(self._open)
        if self._tracker.follow(await cluster_id(self._connection)):
            log.info("cluster_new", task=self._task.key)
        known = self._tracker.offsets.get(TASKS_EXAMPLES, {})
        start = await first_offsets(self._connection, TASKS_EXAMPLES, known)
        self._feed = Feed(connection=self._connection, topics=[TASKS_EXAMPLES], inbox=self._inbox, start=start)
        reading = asyncio.create_task(self._feed.run(), name=f"reading {TASKS_EXAMPLES}")
        try:
            await self._checkpoint()
            self.waits_for = None
            while not self.stopping.is_set():
                await self._take(await self._inbox.take(wait_s=0.1))
                if reading.done():
                    reading.result()
            await self._checkpoint()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def close(self) -> None:
        """Close connections, let go of the folder, end the thread."""
        await self._drop_publisher()
        self._thread.stop()
        if self._lock is not None:
            self._lock.close()

    async def _take(self, batch: RecordBatch | None) -> None:
        for piece in pieces(batch, PIECE) if batch is not None else []:
            found: Found = await self._thread.run(self._study.take, piece)
            await self._publish(found.records)
            self._tracker.advance(piece.topic, piece.partition, piece.next_offset)
            self.processed += 1
            for outcome in found.rounds:
                log.info("task_round", task=self._task.key, released=outcome.released, reason=outcome.reason)
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
        self._checkpoints = Checkpoints(self._root / "checkpoints")
        newest = self._checkpoints.newest()
        if newest is None:
            self._tracker = Tracker(Position(lineage=uuid4().hex[:12], cluster_id=""))
            learner = TaskLearner(self._task, seed=self._seed)
            self._study = TaskStudy(learner, round_examples=self._config.round_examples, learn=self._learn)
            return
        folder, position = newest
        self._tracker = Tracker(position)
        self._study = TaskStudy.load(folder, self._task, round_examples=self._config.round_examples, learn=self._learn)

    def _take_lock(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = (self._root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TaskBusyError(path=self._root) from error
