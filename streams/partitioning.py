"""Which partition a key belongs to: what Java's clients choose, so that a user's events stay in one partition."""

from collections.abc import Callable

from aiokafka.partitioner import murmur2

CACHED_KEYS = 200_000


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key by murmur2, as Java's, kafka-python's and aiokafka's default partitioners.

    >>> partition_of(b"21", 1000), partition_of(b"foobar", 4)
    (340, 2)
    """
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


def remembered(partitions: int, *, capacity: int = CACHED_KEYS) -> Callable[[bytes], int]:
    """`partition_of` for a fixed number of partitions, with its answers kept: users come again.

    Hashing takes some 4 us a key in Python, looking up 50 ns. When `capacity` keys are known, all are forgotten.

    Args:
        partitions: How many the topic has.
        capacity: Most keys remembered.
    """
    known: dict[bytes, int] = {}

    def partition(key: bytes) -> int:
        found = known.get(key)
        if found is None:
            if len(known) >= capacity:
                known.clear()
            found = known[key] = partition_of(key, partitions)
        return found

    return partition
