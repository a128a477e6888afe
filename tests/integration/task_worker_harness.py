"""Task workers on the embedded broker: what goes in, what comes out, and how they end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from learners.tasks.task import Task
from streams.clients import KafkaConnection
from streams.events import TaskExample
from streams.publisher import Publisher
from streams.task_process import TaskProcess, TaskWorkerConfig
from streams.tasks.study import Learn
from streams.topics import QUALITY_METRICS, TASKS_EXAMPLES, TASKS_PREDICTIONS, USERS_ERASURES
from tests.brokers import EmbeddedBroker
from tests.reading import all_batches

DLQ = f"{TASKS_EXAMPLES}.dlq"
CONFIG = TaskWorkerConfig(round_examples=40, checkpoint_interval_s=0.0, give_up_after_s=20.0)
JOINT = replace(CONFIG, round_examples=60)
Record = tuple[bytes, bytes]


def with_topics(broker: EmbeddedBroker, *, partitions: int = 1) -> KafkaConnection:
    """Create what a worker reads and writes, each topic with one partition but that of examples, where asked for."""
    broker.create_topics(
        {TASKS_EXAMPLES: partitions, DLQ: 1, TASKS_PREDICTIONS: 1, QUALITY_METRICS: 1, USERS_ERASURES: 1}
    )
    return KafkaConnection(bootstrap_servers=broker.bootstrap_servers)


def record(number: int, fields: dict[str, Any], *, task: str = "topic", user_id: str | None = None) -> Record:
    example = TaskExample(example_id=f"e{number}", task=task, fields=fields, user_id=user_id)
    return example.example_id.encode(), msgspec.json.encode(example)


async def send(kafka: KafkaConnection, records: list[Record], *, topic: str = TASKS_EXAMPLES) -> None:
    async with Publisher(connection=kafka) as publisher:
        await publisher.send_keyed(topic, records)


async def everything(kafka: KafkaConnection, topic: str) -> list[bytes | None]:
    """Return all values of a topic."""
    return [value for batch in await all_batches(kafka, topic) for value in batch.values]


def worker(
    kafka: KafkaConnection, folder: Path, tasks: Sequence[Task], *, share: str = "encoder", learn: Learn | None = None
) -> TaskProcess:
    config = CONFIG if len(tasks) == 1 else JOINT
    return TaskProcess(connection=kafka, tasks=tasks, data_dir=folder, share=share, seed=0, config=config, learn=learn)


async def work(
    kafka: KafkaConnection,
    folder: Path,
    until: int,
    tasks: Sequence[Task],
    *,
    share: str = "encoder",
    learn: Learn | None = None,
    saves: bool = True,
) -> TaskProcess:
    """Run a worker until it has read so many records, then stop it; a cancelled one might leave an open connection."""
    process = worker(kafka, folder, tasks, share=share, learn=learn)
    if not saves:
        process._write = lambda: None  # type: ignore[method-assign]
    running = asyncio.create_task(process.run())
    try:
        await read(process, until, running)
        process.stopping.set()
        await running
    finally:
        running.cancel()
        await process.close()
    return process


work_for_nothing = partial(work, saves=False)  # leaves what a kill leaves: answers that no checkpoint knows of


async def read(process: TaskProcess, until: int, running: asyncio.Task[None]) -> None:
    """Wait until a worker has read so many records, or has failed."""
    async with asyncio.timeout(60):
        while not running.done() and read_so_far(process) < until:
            await asyncio.sleep(0.05)


def read_so_far(process: TaskProcess) -> int:
    counts = process.progress().get("counts", {"predicted": -1})
    return sum(counts.get(name, 0) for name in ("predicted", "rejected", "erased", "of other tasks"))


def started(kafka: KafkaConnection, data_dir: Path, *arguments: Path | str) -> subprocess.Popen[bytes]:
    """Start `alluvium task-worker` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "task-worker", *map(str, arguments)],
        env={
            **os.environ,
            "ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "ALLUVIUM_DATA_DIR": str(data_dir),
            "ALLUVIUM_LEARNING__CHECKPOINT_INTERVAL_S": "0.5",
        },
        start_new_session=True,
    )
