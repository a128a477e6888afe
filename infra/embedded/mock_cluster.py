"""librdkafka's mock cluster through its C API, from the library that confluent-kafka's wheel carries."""

import ctypes
import ctypes.util
from pathlib import Path

import confluent_kafka

from infra.errors import EmbeddedStartError

RD_KAFKA_PRODUCER = 0
NO_ERROR = 0
TOPIC_ALREADY_EXISTS = 36


def library_path() -> str:
    """Where librdkafka lies: beside the wheel (Linux), inside it (macOS), or wherever the system keeps it."""
    package = Path(confluent_kafka.__file__).parent
    bundled = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    # the wheel ships only one, but a name containing ++ would be the C++ wrapper
    found = next((str(path) for path in sorted(bundled) if "++" not in path.name), ctypes.util.find_library("rdkafka"))
    if found is None:
        raise EmbeddedStartError(part="Kafka", reason=f"librdkafka was not found beside {package}")
    return found


class MockCluster:
    """One mock broker inside this process; librdkafka serves it from a thread of its own."""

    def __init__(self) -> None:
        self._c = ctypes.CDLL(library_path())
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._c, name).restype = ctypes.c_void_p
        self._c.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self._c.rd_kafka_err2str.restype = ctypes.c_char_p
        reason = ctypes.create_string_buffer(512)
        settings = ctypes.c_void_p(self._c.rd_kafka_conf_new())
        self._c.rd_kafka_conf_set(settings, b"log_level", b"3", reason, len(reason))  # errors only
        handle = self._c.rd_kafka_new(RD_KAFKA_PRODUCER, settings, reason, len(reason))
        if not handle:
            raise EmbeddedStartError(part="Kafka", reason=reason.value.decode())
        cluster = self._c.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), 1)
        if not cluster:
            raise EmbeddedStartError(part="Kafka", reason="librdkafka could not open its mock cluster")
        self._cluster = ctypes.c_void_p(cluster)
        # three seconds of waiting for more consumers would delay every start and every rebalance
        self._c.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: 127.0.0.1 and a free port."""
        return str(self._c.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; one that exists already is left as it is.

        Raises:
            ValueError: If `partitions` is below 1, or librdkafka refuses.
        """
        if partitions < 1:
            raise ValueError(f"topic {name!r}: {partitions} partitions; expected at least 1")
        code = self._c.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code not in {NO_ERROR, TOPIC_ALREADY_EXISTS}:
            raise ValueError(f"topic {name!r} with {partitions} partitions: {self._c.rd_kafka_err2str(code).decode()}")
