"""Bring up all that one run needs: Kafka and Postgres where none is given, topics, features, workers, a learner."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from feature_store.apply import apply as apply_features
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.ports import reserved_port
from infra.settings import Settings, leaves
from infra.supervisor import Program, Supervisor
from streams import admin
from streams.clients import KafkaConnection, cluster_id
from streams.topics import all_topics

READY_TIMEOUT_S = 120.0
EMBEDDED_SESSION_TIMEOUT_S = 10.0
LEARNER = "learner"


class Deployment:
    """A running system. Use it as a context: leaving it stops every process, also when it is left by an exception.

    Args:
        settings: What to run with. An embedded Kafka or Postgres starts where no address is set.
        workers: Worker processes, named worker-1, worker-2, ...
        has_learner: Whether to start the learner.
    """

    def __init__(self, *, settings: Settings, workers: int = 1, has_learner: bool = True) -> None:
        self._settings = settings
        self._has_learner = has_learner
        self._stack = ExitStack()
        self._log_dir = (settings.data_dir / "logs").absolute()
        self.embedded_kafka: EmbeddedKafka | None = None
        self.embedded_postgres: EmbeddedPostgres | None = None
        self.workers = tuple(f"worker-{number}" for number in range(1, workers + 1))
        self.bootstrap_servers = settings.kafka.bootstrap_servers or ""
        self.postgres_url = settings.postgres.url.get_secret_value() if settings.postgres.url else ""
        self.cluster_id = ""
        self.urls: dict[str, str] = {}  # process name -> where it answers over HTTP
        self.supervisor = Supervisor(log_dir=self._log_dir)

    @property
    def settings(self) -> Settings:
        """The settings, with the addresses of what was started."""
        found = self._settings
        return found.model_copy(
            update={
                "kafka": found.kafka.model_copy(update={"bootstrap_servers": self.bootstrap_servers}),
                "postgres": found.postgres.model_copy(update={"url": SecretStr(self.postgres_url)}),
                "data_dir": found.data_dir.absolute(),
            }
        )

    @property
    def connection(self) -> KafkaConnection:
        """How to reach Kafka."""
        return kafka_connection(self.settings)

    @property
    def learner_url(self) -> str | None:
        """The learner's HTTP address; None if there is none."""
        return self.urls.get(LEARNER)

    @property
    def worker_urls(self) -> tuple[str, ...]:
        """The workers' HTTP addresses."""
        return tuple(self.urls[name] for name in self.workers)

    def pids(self) -> dict[str, int]:
        """The process ids of everything that runs, by name."""
        parts = {"kafka": self.embedded_kafka, "postgres": self.embedded_postgres}
        return {name: part.pid for name, part in parts.items() if part is not None} | self.supervisor.pids()

    def start_stores(self) -> None:
        """Start Kafka and Postgres where they are missing, and create topics, features and tables.

        Raises:
            EmbeddedStartError: If an embedded part does not come up.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        topics = all_topics(partitions=self._settings.kafka.partitions)
        if not self.bootstrap_servers:
            log = self._stack.enter_context((self._log_dir / "kafka.log").open("ab"))
            self.embedded_kafka = self._stack.enter_context(EmbeddedKafka(topics=topics, log=log))
            self.bootstrap_servers = self.embedded_kafka.bootstrap_servers
        elif asyncio.run(admin.verify_partitions(self.connection, topics)):  # some are missing, or wrong
            kafka = self._settings.kafka
            admin.apply(self.connection, partitions=kafka.partitions, replication_factor=kafka.replication_factor)
        if not self.postgres_url:
            log = self._stack.enter_context((self._log_dir / "postgres.log").open("ab"))
            self.embedded_postgres = self._stack.enter_context(EmbeddedPostgres(log=log))
            self.postgres_url = self.embedded_postgres.url
        self.cluster_id = asyncio.run(cluster_id(self.connection))
        apply_features(postgres_url=self.postgres_url, history_dir=self.settings.data_dir / "history")

    def start_processes(self, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Start workers and learner, and return when all are ready.

        Raises:
            ProcessFailedError: If one is not ready in time, or ends again and again.
        """
        self._stack.enter_context(self.supervisor)
        for index, name in enumerate(self.workers):
            self._start(name, "worker", port_setting="worker_port", port=self._settings.http.worker_port + index)
        if self._has_learner:
            self._start(LEARNER, LEARNER, port_setting="learner_port", port=self._settings.http.learner_port)
        self.supervisor.wait_ready(timeout_s=timeout_s)

    def _start(self, name: str, command: str, *, port_setting: str, port: int) -> None:
        host = self._settings.http.host
        port = self._stack.enter_context(reserved_port(host, port))
        self.urls[name] = f"http://{host}:{port}"
        settings = self.settings
        http = settings.http.model_copy(update={port_setting: port})
        kafka = settings.kafka.model_copy(update=self._membership(name))
        self.supervisor.start(
            Program(
                name=name,
                argv=[sys.executable, "-m", "infra.cli", command],
                env=environment(settings.model_copy(update={"http": http, "kafka": kafka})),
                ready_url=f"{self.urls[name]}/healthz",
            )
        )

    def _membership(self, name: str) -> dict[str, object]:
        """How a process that is killed and started again gets its partitions back soon."""
        kafka = self._settings.kafka
        if self.embedded_kafka is None:
            return {"instance_id": kafka.instance_id or f"{socket.gethostname()}-{name}"}
        # the embedded broker does not recognise a member that returns: it waits until the old one has timed out
        return {"session_timeout_s": min(kafka.session_timeout_s, EMBEDDED_SESSION_TIMEOUT_S)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def kafka_connection(settings: Settings) -> KafkaConnection:
    """How to reach the Kafka that the settings name."""
    kafka = settings.kafka
    return KafkaConnection(
        bootstrap_servers=kafka.bootstrap_servers or "",
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        ssl_cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None,
    )


def environment(settings: Settings) -> Mapping[str, str]:
    """The settings as variables, so that another process reads the very same.

    >>> environment(Settings())["ALLUVIUM_INGEST__LINGER_MS"]
    '100'
    """
    variables = {}
    for variable, _ in leaves():
        value: Any = settings
        for name in variable.removeprefix("ALLUVIUM_").lower().split("__"):
            value = getattr(value, name)
        if value is not None:
            variables[variable] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return variables
