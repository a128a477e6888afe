import socket

import pytest

from streams.clients import KafkaConnection, cluster_id, describe
from streams.errors import KafkaSettingsError, KafkaUnavailableError, StreamsError

SASL = {
    "bootstrap_servers": "b:9093",
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "alluvium",
    "sasl_password": "hush",
}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"bootstrap_servers": "nowhere"}, "bootstrap_servers is 'nowhere'; expected host:port"),
        ({"bootstrap_servers": "a:1,b:x"}, "bootstrap_servers is 'b:x'"),
        ({"bootstrap_servers": "a:1", "security_protocol": "TLS"}, "expected one of PLAINTEXT, SSL"),
        ({"bootstrap_servers": "a:1", "sasl_username": "u"}, "expected SASL_SSL, since sasl_\\* is set"),
        ({"bootstrap_servers": "a:1", "ssl_cafile": "/ca.pem"}, "since ssl_cafile is set"),
        (SASL | {"sasl_mechanism": None}, "sasl_mechanism is None; expected one of PLAIN"),
        (SASL | {"sasl_password": None}, "sasl_username is 'alluvium'; expected a user name and kafka.sasl_password"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, str], named: str) -> None:
    with pytest.raises(KafkaSettingsError, match=named):
        KafkaConnection(**settings)


def test_sasl_reaches_every_client_library() -> None:
    connection = KafkaConnection(**SASL)
    for arguments in (connection.aiokafka(), connection.kafka_python()):
        assert arguments["security_protocol"] == "SASL_SSL"
        assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
        assert arguments["sasl_plain_password"] == "hush"
        assert arguments["ssl_context"].check_hostname
    credentials = connection.faust_credentials()
    assert credentials.protocol.value == "SASL_SSL"  # never silently plain text
    assert credentials.mechanism.value == "SCRAM-SHA-512"


def test_a_password_is_not_shown() -> None:
    assert "hush" not in repr(KafkaConnection(**SASL))


def test_plain_connections_have_no_credentials() -> None:
    assert KafkaConnection(bootstrap_servers="a:1").faust_credentials() is None


def test_a_missing_certificate_file_is_named() -> None:
    connection = KafkaConnection(**SASL, ssl_cafile="/nowhere/ca.pem")
    with pytest.raises(KafkaSettingsError, match=r"ssl_cafile is ./nowhere/ca\.pem."):
        connection.ssl_context()


async def test_a_broker_that_is_not_there_is_unavailable_with_advice() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(KafkaUnavailableError, match="is unavailable while asking for its topics") as caught:
        await describe(KafkaConnection(bootstrap_servers=address))
    assert caught.value.retry_after_s > 0
    assert isinstance(caught.value, StreamsError | ConnectionError)


async def test_a_cluster_says_who_it_is_and_what_topics_it_has(kafka) -> None:
    connection, topic = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers), kafka.topic(partitions=3)
    identity, counts = await describe(connection, [topic, "no-such-topic"])
    assert counts == {topic: 3}
    assert identity == await cluster_id(connection)
    assert len(identity) > 8
