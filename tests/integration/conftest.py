"""What the transport's tests share."""

import pytest

from streams.clients import KafkaConnection
from tests.brokers import Broker, unique_name
from tests.integration.transport_harness import REAL


@pytest.fixture
def connection(kafka: Broker) -> KafkaConnection:
    if kafka.kind == "real":
        REAL.add(kafka.bootstrap_servers)
    return KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def group() -> str:
    return unique_name("group")
