"""Brokers for tests: the embedded one and a real Apache Kafka, behind one face."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from infra import processes
from infra.embedded.kafka import EmbeddedKafka
from tests.waiting import wait_until

KAFKA_SH = Path(__file__).parents[2] / "shared" / "kafka" / "kafka.sh"
ADDRESS_VARIABLE = "ALLUVIUM_TEST_BOOTSTRAP_SERVERS"
# `kafka.sh` detaches its brokers; this process stops them when ours ends, however it ends
KEEPER = "import shutil,subprocess,sys; sys.stdin.read(); subprocess.run([sys.argv[1], 'stop', sys.argv[2]]); "
KEEPER += "shutil.rmtree(sys.argv[2], ignore_errors=True)"


class Broker(ABC):
    """What every broker of the tests offers."""

    kind: Literal["embedded", "real"]
    bootstrap_servers: str

    @abstractmethod
    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics by name, with their numbers of partitions; they vanish after the test."""

    def topic(self, name: str = "events", partitions: int = 4) -> str:
        """Create a topic that no other test uses and return its name."""
        unique = unique_name(name)
        self.create_topics({unique: partitions})
        return unique


class EmbeddedBroker(Broker):
    """A fresh mock broker; nothing is shared with other tests."""

    kind: Literal["embedded", "real"] = "embedded"

    def __init__(self) -> None:
        self._kafka = EmbeddedKafka().start()
        self.bootstrap_servers = self._kafka.bootstrap_servers
        self.pid = self._kafka.pid

    def create_topics(self, topics: Mapping[str, int]) -> None:
        self._kafka.create_topics(topics)

    def close(self) -> None:
        self._kafka.stop()


class RealBroker(Broker):
    """A real broker that lives longer than a test: what a test created in it is removed afterwards."""

    kind: Literal["embedded", "real"] = "real"

    def __init__(self, bootstrap_servers: str, cluster: "LocalKafka | None" = None) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.cluster = cluster  # None: somebody else's, which no test may kill
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        self._created: set[str] = set()
        self._before: set[str] | None = None
        self._groups = self._group_ids()

    def create_topics(self, topics: Mapping[str, int]) -> None:
        new = [NewTopic(name, partitions, 1) for name, partitions in topics.items()]
        self._admin.create_topics(new)
        self._created |= topics.keys()
        wait_until(lambda: topics.keys() <= set(self._admin.list_topics()))  # who asks next must find them

    def adopt_all_topics(self) -> None:
        """Remove after the test whatever topics it makes by other means."""
        self._before = set(self._admin.list_topics())

    def close(self) -> None:
        wait_until(self._answers)  # a test may have killed it and started it again
        if self._before is not None:
            made = set(self._admin.list_topics()) - self._before
            self._created |= {name for name in made if not name.startswith("__")}  # the broker's own stay
        present = set(self._admin.list_topics())
        if self._created & present:
            self._admin.delete_topics(sorted(self._created & present))
        for group in self._group_ids() - self._groups:
            with contextlib.suppress(KafkaError):  # still has a member that is just leaving
                self._admin.delete_groups([group])
        self._admin.close()

    def _answers(self) -> bool:
        try:
            self._admin.list_topics()
        except KafkaError:
            self._admin.close()
            with contextlib.suppress(KafkaError):
                self._admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
            return False
        return True

    def _group_ids(self) -> set[str]:
        return {str(group["group_id"]) for group in self._admin.list_groups()}


class LocalKafka:
    """A real Apache Kafka on this machine, started through `kafka.sh`; its folder goes when it stops.

    Args:
        options: More for `kafka.sh start`: "--sasl", "--nodes", "3", "--set", "key=value".
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="alluvium-kafka-"))
        self.addresses: list[str] = []
        self._keeper: processes.Child | None = None

    @staticmethod
    def missing() -> str | None:
        """Why none can be started here, or None."""
        advice = f"there is no real Kafka: set {ADDRESS_VARIABLE} to a broker's address"
        if not KAFKA_SH.exists():
            return f"{advice} (no kafka.sh beside the checkout)"
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            return f"{advice} (kafka.sh needs Java 17)"
        return None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect without credentials."""
        return self.addresses[0]

    def start(self) -> Self:
        self._keeper = processes.spawn(
            [sys.executable, "-c", KEEPER, str(KAFKA_SH), str(self.folder)],
            stdin=subprocess.PIPE,
            death_signal=signal.SIGCONT,  # harmless: closing standard input is the sign
        )
        for attempt in range(3):
            port = free_port_range()
            try:
                self.addresses = self.call("start", str(self.folder), "--port", str(port), *self._options).split()
            except subprocess.CalledProcessError:  # somebody took a port meanwhile
                if attempt == 2:
                    raise
                self.call("stop", str(self.folder))
                shutil.rmtree(self.folder / "node-1", ignore_errors=True)
            else:
                break
        return self

    def kill(self, node: int = 1) -> None:
        """SIGKILL one node."""
        self.call("kill", str(self.folder), str(node))

    def restart(self, node: int = 1) -> None:
        """Start a killed or stopped node again, on the same data."""
        self.call("restart", str(self.folder), str(node))

    def stop(self) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait(60)
            self._keeper = None

    def call(self, *arguments: str) -> str:
        """Run `kafka.sh` and return what it printed."""
        return subprocess.run(
            [str(KAFKA_SH), *arguments], check=True, capture_output=True, text=True, timeout=90
        ).stdout


def unique_name(name: str) -> str:
    """A topic or group name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def free_port_range() -> int:
    """A port P such that `kafka.sh` can use P.. (plain), P+100.. (controllers) and P+200.. (SASL) for three nodes."""
    while True:
        port = random.randrange(20_000, 32_000)
        if all(_is_free(port + offset + node) for offset in (0, 100, 200) for node in range(3)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
