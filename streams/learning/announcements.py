"""What the learner tells the world, in order and without loss: records wait here until Kafka has acknowledged them."""

import asyncio
import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Sequence

import structlog

from streams.clients import KafkaConnection
from streams.errors import KafkaUnavailableError, NotDeliveredError
from streams.publisher import Publisher

log = structlog.get_logger(__name__)

Record = tuple[bytes, bytes | None]

_MOST_AT_ONCE = 2_000


class Announcer:
    """Publish in the background, one record after another per topic, and know when everything has arrived.

    Every record here is harmless when repeated (ids are deterministic, values replace values), so whatever was not
    acknowledged is simply sent again, in the same order, by a new producer.

    Args:
        connection: Where Kafka is.
        capacity: Records that may wait; `put` waits for room beyond, so that an absent broker stops learning rather
            than filling memory.
        give_up_after_s: How long Kafka may be away before `run` raises.
    """

    def __init__(self, *, connection: KafkaConnection, capacity: int = 50_000, give_up_after_s: float = 300.0) -> None:
        self._connection, self._capacity, self._give_up_after_s = connection, capacity, give_up_after_s
        self._waiting: list[tuple[str, Record]] = []
        self._changed = asyncio.Condition()
        self._put = self._acknowledged = 0
        self.delivered = 0

    @property
    def waiting(self) -> int:
        """Records not yet acknowledged."""
        return self._put - self._acknowledged

    async def put(self, topic: str, records: Sequence[Record]) -> None:
        """Queue records of one topic; waits while too many wait already."""
        if not records:
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self.waiting < self._capacity)
            self._waiting.extend((topic, record) for record in records)
            self._put += len(records)
            self._changed.notify_all()

    async def flush(self) -> None:
        """Wait until everything put so far is acknowledged."""
        mark = self._put
        async with self._changed:
            await self._changed.wait_for(lambda: self._acknowledged >= mark)

    async def run(self) -> None:
        """Publish until cancelled.

        Raises:
            KafkaUnavailableError: If Kafka stays away for longer than `give_up_after_s`.
        """
        publisher: Publisher | None = None
        away_since: float | None = None
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: bool(self._waiting))
                batch = self._waiting[:_MOST_AT_ONCE]
                try:
                    async with self._connection.reaching("announcing"):
                        if publisher is None:
                            publisher = await _publisher(self._connection)
                        await _send(publisher, batch)
                except (KafkaUnavailableError, NotDeliveredError) as error:
                    await _stop(publisher)
                    publisher = None
                    now = asyncio.get_running_loop().time()
                    away_since = now if away_since is None else away_since
                    if now - away_since > self._give_up_after_s:
                        raise
                    log.warning("announcements_delayed", waiting=self.waiting, error=str(error))
                    await asyncio.sleep(getattr(error, "retry_after_s", 1.0))
                    continue
                away_since = None
                async with self._changed:
                    del self._waiting[: len(batch)]
                    self._acknowledged += len(batch)
                    self.delivered += len(batch)
                    self._changed.notify_all()
        finally:
            await _stop(publisher)


def record_id(*parts: object) -> str:
    """Return an id that is the same for the same parts, in any process.

    >>> record_id("hit_rate_10", "mixture", 8000) == record_id("hit_rate_10", "mixture", 8000)
    True
    """
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=12).hexdigest()


async def _publisher(connection: KafkaConnection) -> Publisher:
    publisher = Publisher(connection=connection, client_id="alluvium-learner")
    try:
        return await publisher.start()
    except BaseException:
        await _stop(publisher)
        raise


async def _send(publisher: Publisher, batch: Sequence[tuple[str, Record]]) -> None:
    topics: dict[str, list[Record]] = defaultdict(list)
    for topic, record in batch:
        topics[topic].append(record)
    for topic, records in topics.items():
        await publisher.send_keyed(topic, records)


async def _stop(publisher: Publisher | None) -> None:
    if publisher is not None:
        with contextlib.suppress(KafkaUnavailableError):
            await publisher.stop()
