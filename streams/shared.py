"""What every worker must know all of: catalogue, erasures, releases, experts; read whole and without a group."""

from collections.abc import AsyncIterator

from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.reader import WholeReader
from streams.topics import CATALOG_ITEMS, EXPERTS_UPDATES, MODELS_RELEASES, USERS_ERASURES

SHARED_TOPICS = (CATALOG_ITEMS, USERS_ERASURES, MODELS_RELEASES, EXPERTS_UPDATES)


class SharedTopics:
    """The shared topics, from their beginning and for ever.

    Args:
        connection: Where Kafka is.
    """

    def __init__(self, *, connection: KafkaConnection) -> None:
        self._reader = WholeReader(connection=connection, topics=SHARED_TOPICS, client_id="alluvium-shared")
        self.records = 0

    @property
    def is_complete(self) -> bool:
        """Whether all that Kafka held when this process started has been handled."""
        return self._reader.caught_up.is_set()

    async def complete(self) -> None:
        """Wait until all that Kafka held at start has been handled."""
        await self._reader.caught_up.wait()

    async def __aiter__(self) -> AsyncIterator[RecordBatch]:
        async with self._reader as reader:
            async for batch in reader:
                self.records += len(batch)
                yield batch
