"""A small learner process for tests: what it reads, how it is started and killed, and what it leaves behind."""

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from infra import processes
from learners.checkpoint import load_state
from learners.errors import CorruptCheckpointError
from streams.clients import KafkaConnection
from streams.events import CatalogItem, Interaction
from streams.learning.checkpoint import POSITION, STATE
from streams.learning.position import Position
from streams.publisher import Publisher
from streams.topics import CATALOG_ITEMS, INTERACTIONS_VALIDATED, all_topics
from tests.brokers import Broker
from tests.reading import all_batches

START_MS = 1_700_000_000_000
ITEMS, GROUPS = 50, 5
_encode = msgspec.json.Encoder().encode
Wire = TypeVar("Wire")


def interactions(count: int, *, partitions: int, seed: int = 0) -> list[Interaction]:
    """What people did in a small shop, where everybody sticks to one of a few groups of items."""
    rng = random.Random(seed)
    offsets = [0] * partitions
    made = []
    for number in range(count):
        user = rng.randrange(60)
        partition = user % partitions
        group = user % GROUPS if rng.random() < 0.9 else rng.randrange(GROUPS)
        made.append(
            Interaction(
                event_id=f"e{number}",
                user_id=f"u{user}",
                item_id=f"i{group * (ITEMS // GROUPS) + min(int(rng.expovariate(0.5)), ITEMS // GROUPS - 1)}",
                event_type=rng.choice(["view", "click", "cart", "purchase", "view", "return"]),
                event_time_ms=START_MS + number * 60_000,
                appended_at_ms=START_MS + number * 60_000,
                partition=partition,
                offset=offsets[partition],
            )
        )
        offsets[partition] += 1
    return made


def targets(made: Iterable[Interaction]) -> int:
    """How many of them are scored and learned."""
    return sum(each.event_type != "return" for each in made)


class Shop:
    """Topics with a catalogue, on a broker of the tests."""

    def __init__(self, broker: Broker, *, partitions: int) -> None:
        self.connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)
        broker.create_topics(all_topics(partitions=partitions))
        items = [CatalogItem(item_id=f"i{n}", title=f"thing {n} of kind {n // GROUPS}") for n in range(ITEMS)]
        self.publish(CATALOG_ITEMS, {0: [(item.item_id, _encode(item)) for item in items]})

    def publish(self, topic: str, runs: dict[int, list[tuple[str, bytes | None]]]) -> None:
        """Append records to partitions of a topic."""

        async def send() -> None:
            async with Publisher(connection=self.connection) as publisher:
                await publisher.send_runs(
                    topic, {partition: [(key.encode(), value) for key, value in run] for partition, run in runs.items()}
                )

        asyncio.run(send())

    def happen(self, made: Iterable[Interaction]) -> None:
        """Append interactions, each to its source's partition."""
        runs: dict[int, list[tuple[str, bytes | None]]] = {}
        for each in made:
            runs.setdefault(each.partition, []).append((each.user_id, _encode(each)))
        self.publish(INTERACTIONS_VALIDATED, runs)

    def read(self, topic: str, wire: type[Wire]) -> list[Wire]:
        """Everything that a topic holds."""
        batches = asyncio.run(all_batches(self.connection, topic))
        values = (value for batch in batches for value in batch.values)
        return [msgspec.json.decode(value, type=wire) for value in values if value is not None]


class LearnerRun:
    """A learner process of `tests.learner_driver`, started again and again on the same data."""

    def __init__(self, shop: Shop, *, postgres_url: str, data_dir: Path, **options: Any) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self._options = {
            "bootstrap_servers": shop.connection.bootstrap_servers,
            "postgres_url": postgres_url,
            "data_dir": str(data_dir),
            **options,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **options: Any) -> None:
        (self.data_dir / "port").unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.learner_driver", json.dumps(self._options | options)]
        with (self.data_dir / "learner.log").open("ab") as log:
            self.process = processes.spawn(argv, stdout=log, stderr=log)

    def progress(self) -> dict[str, Any]:
        """What it says of itself; nothing while it does not answer."""
        try:
            port = int((self.data_dir / "port").read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return {}
        return found

    def until(self, reached: Callable[[dict[str, Any]], Any], *, timeout_s: float = 180.0) -> dict[str, Any]:
        """Wait until its progress is as wished."""
        give_up_at = time.monotonic() + timeout_s
        while not ((progress := self.progress()) and reached(progress)):
            assert self.process is not None
            assert self.process.poll() is None, f"the learner ended with {self.process.returncode}: {self.log()}"
            assert time.monotonic() < give_up_at, f"still {progress}: {self.log()}"
            time.sleep(0.05)
        return progress

    def until_killed(self, *, timeout_s: float = 180.0) -> None:
        """Wait until it has killed itself."""
        assert self.process is not None
        assert self.process.wait(timeout_s) == -signal.SIGKILL, self.log()

    def kill(self) -> None:
        """Kill it with -9, in the middle of whatever it does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def trainer(self) -> psutil.Process | None:
        """The child that trains, if one does."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "learners.rounds.process" in child.cmdline():
                return child
        return None

    def log(self) -> str:
        return (self.data_dir / "learner.log").read_text()[-3_000:]

    def checkpoint(self) -> tuple[dict[str, Any], Position]:
        """The newest checkpoint: the learner's state, and its position."""
        for _ in range(50):  # a running learner may replace it while it is read
            folders = sorted((self.data_dir / "checkpoints").glob("[0-9]*"))
            with contextlib.suppress(OSError, IndexError, CorruptCheckpointError):
                position = msgspec.json.decode((folders[-1] / POSITION).read_bytes(), type=Position)
                if (state := load_state(folders[-1] / STATE)) is not None:
                    return state["learner"], position
            time.sleep(0.05)
        raise AssertionError(f"no readable checkpoint in {self.data_dir}")
