"""The embedded broker: librdkafka's mock cluster in a process of its own.

`EmbeddedKafka` starts it and makes topics; `python -m infra.embedded.kafka --topics '{"clickstream.events": 4}'` runs
it alone. It dies with the process that started it.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from infra import processes
from infra.errors import EmbeddedStartError

LIMITS = (
    "embedded Kafka is a mock for demos and tests: it keeps 5 MiB per partition, compacts nothing, knows neither"
    " transactions nor SASL, and forgets everything when it exits"
)


class EmbeddedKafka:
    """An embedded broker as a child process.

    Args:
        topics: Topics to create at start, with their numbers of partitions.
        log: Where its standard error goes, the warning of its limits included; None: this process's.
    """

    def __init__(self, *, topics: Mapping[str, int] | None = None, log: IO[bytes] | None = None) -> None:
        self._topics = dict(topics or {})
        self._log = log
        self._child: processes.Child | None = None
        self.bootstrap_servers = ""

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        if self._child is None:
            raise EmbeddedStartError(part="Kafka", reason="it was not started")
        return self._child.pid

    def start(self) -> Self:
        """Start the broker and return when it answers."""
        argv = [sys.executable, "-m", "infra.embedded.kafka", "--control", "--topics", json.dumps(self._topics)]
        self._child = processes.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        self.bootstrap_servers = self._reply()["bootstrap_servers"]
        return self

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create topics with the given numbers of partitions; those that exist are left as they are.

        Raises:
            ValueError: If the broker refuses one.
        """
        if self._child is None or self._child.stdin is None:
            raise EmbeddedStartError(part="Kafka", reason="it was not started")
        self._child.stdin.write(json.dumps({"create": dict(topics)}).encode() + b"\n")
        self._child.stdin.flush()
        if error := self._reply().get("error"):
            raise ValueError(error)

    def stop(self) -> None:
        """End the broker and all it knows; a second call does nothing."""
        if self._child is not None:
            processes.end(self._child)
            self._child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _reply(self) -> dict[str, Any]:
        if self._child is None or self._child.stdout is None:
            raise EmbeddedStartError(part="Kafka", reason="it was not started")
        line = self._child.stdout.readline()
        if not line:
            status = processes.end(self._child)
            raise EmbeddedStartError(part="Kafka", reason=f"it exited with status {status}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def serve(topics: Mapping[str, int], *, port_file: Path | None, control: bool) -> None:
    """Run a broker in this process until its standard input closes (`control`) or a signal ends it."""
    from infra.embedded.mock_cluster import MockCluster  # noqa: PLC0415  # the parent need not load librdkafka

    cluster = MockCluster()
    for name, partitions in topics.items():
        cluster.create_topic(name, partitions)
    if port_file is not None:
        partial = port_file.with_name(port_file.name + ".tmp")
        partial.write_text(cluster.bootstrap_servers + "\n", encoding="utf-8")
        partial.replace(port_file)
    sys.stderr.write(f"warning: {LIMITS}\n")
    _answer(bootstrap_servers=cluster.bootstrap_servers)
    if not control:
        signal.pause()
    for line in sys.stdin:
        try:
            for name, partitions in json.loads(line)["create"].items():
                cluster.create_topic(name, partitions)
            _answer(ok=True)
        except ValueError as refusal:
            _answer(error=str(refusal))


def _answer(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line of `python -m infra.embedded.kafka`."""
    parser = argparse.ArgumentParser(prog="infra.embedded.kafka", description=LIMITS)
    parser.add_argument("--topics", type=json.loads, default={}, help='JSON, {"name": partitions}')
    parser.add_argument("--port-file", type=Path, help="write the bootstrap address here when ready")
    parser.add_argument("--control", action="store_true", help='read {"create": topics} from standard input')
    arguments = parser.parse_args()
    serve(arguments.topics, port_file=arguments.port_file, control=arguments.control)


if __name__ == "__main__":
    main()
