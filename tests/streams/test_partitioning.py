from aiokafka.partitioner import DefaultPartitioner
from kafka.partitioner import murmur2 as other_murmur2

from streams import partitioning
from streams.partitioning import partition_of, remembered

# Apache Kafka's own test of its hash, clients/src/test/java/.../UtilsTest.java
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_keys_go_where_java_sends_them() -> None:
    for key, hashed in JAVA.items():
        for partitions in (1, 3, 4, 12, 1000):
            assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


def test_both_python_clients_agree() -> None:
    partitioner, twelve = DefaultPartitioner(), list(range(12))
    for number in range(500):
        key = b"user-%d" % (number * 7919)
        assert partition_of(key, 12) == partitioner(key, twelve, twelve)
        assert partition_of(key, 12) == (other_murmur2(key) & 0x7FFFFFFF) % 12


def test_remembered_answers_are_the_same_and_bounded(monkeypatch) -> None:
    partition, asked = remembered(12, capacity=10), []

    def counting(key: bytes, partitions: int) -> int:
        asked.append(key)
        return partition_of(key, partitions)

    monkeypatch.setattr(partitioning, "partition_of", counting)
    keys = [b"%d" % i for i in range(10)]
    assert [partition(key) for key in keys * 2] == [partition_of(key, 12) for key in keys * 2]
    assert asked == keys  # the second time from memory
    partition(b"eleventh")
    partition(keys[0])
    assert asked[-2:] == [b"eleventh", keys[0]]  # forgotten, asked again
