"""Fixtures that every package's tests share: brokers and databases, real ones, none of which outlives the run."""

import logging
import os
import signal
import uuid
from collections.abc import Iterator

import psycopg
import pytest
import structlog
from psycopg import sql

from infra import logs
from infra.embedded.postgres import EmbeddedPostgres
from tests.brokers import ADDRESS_VARIABLE, Broker, EmbeddedBroker, LocalKafka, RealBroker

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, whose children would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def embedded_kafka() -> Iterator[EmbeddedBroker]:
    """A fresh embedded broker."""
    broker = EmbeddedBroker()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def local_kafka() -> Iterator[LocalKafka]:
    """A real Apache Kafka of our own, started once a session; skips where it cannot be started."""
    if reason := LocalKafka.missing():
        pytest.skip(reason)
    cluster = LocalKafka()
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def real_kafka(request: pytest.FixtureRequest) -> Iterator[RealBroker]:
    """A real broker: the one the environment names, else one of our own; topics and groups go after the test."""
    address = os.environ.get(ADDRESS_VARIABLE)
    cluster = None if address else request.getfixturevalue("local_kafka")
    broker = RealBroker(address or cluster.bootstrap_servers, cluster)
    yield broker
    broker.close()


@pytest.fixture(params=["embedded", "real"])
def kafka(request: pytest.FixtureRequest) -> Broker:
    """Each test runs on the embedded broker and on a real one."""
    broker: Broker = request.getfixturevalue(f"{request.param}_kafka")
    return broker


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throw-away Postgres server, one a session; its database `alluvium` is for looking, not for writing."""
    with EmbeddedPostgres() as server:
        yield server.url


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        yield postgres_url.rsplit("/", 1)[0] + f"/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def logs_restored() -> Iterator[None]:
    """Every command sends the whole process's logs elsewhere; other tests must not notice."""
    root, before = logging.getLogger(), {name: logging.getLogger(name).level for name in (*logs.QUIET, "py.warnings")}
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name, old in before.items():
        logging.getLogger(name).setLevel(old)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
