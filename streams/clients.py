"""How to reach Kafka: one description, turned into what each client library wants."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.protocol.metadata import MetadataRequest
from faust.auth import SASLCredentials, SSLCredentials

from streams.errors import KafkaSettingsError, KafkaUnavailableError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """Where Kafka is and how to prove who we are.

    Args:
        bootstrap_servers: `host:port`, several separated by commas.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; needed by the SASL protocols.
        sasl_username: The same.
        sasl_password: The same.
        ssl_cafile: PEM file of the authority that signed the brokers' certificates; None trusts the system's.

    Raises:
        KafkaSettingsError: If the settings contradict each other.
    """

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None

    def __post_init__(self) -> None:
        if self.security_protocol not in PROTOCOLS:
            raise KafkaSettingsError(
                setting="security_protocol", value=self.security_protocol, expected=f"one of {', '.join(PROTOCOLS)}"
            )
        for server in self.servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal():
                raise KafkaSettingsError(setting="bootstrap_servers", value=server, expected="host:port")
        if self.uses_sasl:
            if self.sasl_mechanism not in MECHANISMS:
                expected = f"one of {', '.join(MECHANISMS)} with {self.security_protocol}"
                raise KafkaSettingsError(setting="sasl_mechanism", value=self.sasl_mechanism, expected=expected)
            if not (self.sasl_username and self.sasl_password):
                expected = f"a user name and kafka.sasl_password with {self.security_protocol}"
                raise KafkaSettingsError(setting="sasl_username", value=self.sasl_username, expected=expected)
        elif self.sasl_mechanism or self.sasl_username or self.sasl_password:
            raise KafkaSettingsError(
                setting="security_protocol", value=self.security_protocol, expected="SASL_SSL, since sasl_* is set"
            )
        if self.ssl_cafile and not self.uses_tls:
            raise KafkaSettingsError(
                setting="security_protocol",
                value=self.security_protocol,
                expected="SSL or SASL_SSL, since ssl_cafile is set",
            )

    def __repr__(self) -> str:
        """Without the password, which must not reach a log."""
        return f"KafkaConnection({self.bootstrap_servers!r}, {self.security_protocol}, user={self.sasl_username!r})"

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.bootstrap_servers.split(",") if server.strip()]

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in {"SSL", "SASL_SSL"}

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Certificates and host names are always checked."""
        if not self.uses_tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.ssl_cafile)
        except OSError as exc:
            expected = f"a readable PEM file ({exc})"
            raise KafkaSettingsError(setting="ssl_cafile", value=self.ssl_cafile, expected=expected) from exc

    def aiokafka(self) -> dict[str, Any]:
        """Arguments for aiokafka's clients."""
        return {"bootstrap_servers": self.servers} | self.security()

    def security(self) -> dict[str, Any]:
        """The arguments for aiokafka's clients that say who we are."""
        arguments: dict[str, Any] = {
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.uses_sasl:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return arguments

    def kafka_python(self) -> dict[str, Any]:
        """Arguments for kafka-python's clients."""
        return self.aiokafka()

    def faust_credentials(self) -> Any:
        """What `faust.App(broker_credentials=...)` takes; None for PLAINTEXT."""
        if self.uses_sasl:
            return SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password,
                mechanism=self.sasl_mechanism,
                ssl_context=self.ssl_context(),
            )
        return SSLCredentials(self.ssl_context()) if self.uses_tls else None

    @asynccontextmanager
    async def reaching(self, doing: str) -> AsyncIterator[None]:
        """Translate a client library's failure to reach Kafka, once, at this edge.

        Raises:
            KafkaUnavailableError: If Kafka cannot be reached.
        """
        try:
            yield
        except KafkaUnavailableError:
            raise  # said already
        except (KafkaError, OSError, TimeoutError) as exc:
            raise KafkaUnavailableError(
                bootstrap_servers=self.bootstrap_servers, doing=doing, cause=str(exc) or type(exc).__name__
            ) from exc
        except asyncio.CancelledError as exc:
            # aiokafka cancels what waits on a connection that it closes; nobody has cancelled us then
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise KafkaUnavailableError(
                bootstrap_servers=self.bootstrap_servers, doing=doing, cause="the connection was closed"
            ) from exc


async def describe(connection: KafkaConnection, topics: list[str] | None = None) -> tuple[str, dict[str, int]]:
    """The cluster's identity and how many partitions topics have; a topic that does not exist is left out.

    Args:
        connection: Where to ask.
        topics: Which topics; None for all.

    Raises:
        KafkaUnavailableError: If no broker answers.
    """
    async with connection.reaching("asking for its topics"):
        client = AIOKafkaClient(**connection.aiokafka(), request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
        try:
            await client.bootstrap()
            request = MetadataRequest(topics, allow_auto_topic_creation=False)
            answer = await client.send(client.get_random_node(), request)
        finally:
            await client.close()
    counts = {}
    for error_code, topic, _internal, partitions, *_ in answer.topics:
        if error_code != UnknownTopicOrPartitionError.errno and partitions:
            counts[topic] = len(partitions)
    return str(answer.cluster_id), counts


async def cluster_id(connection: KafkaConnection) -> str:
    """The cluster's identity, by which a ledger knows that its offsets belong to this log.

    Raises:
        KafkaUnavailableError: If no broker answers.
    """
    identity, _ = await describe(connection)
    return identity
