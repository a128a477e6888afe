"""Reading all that a topic holds."""

import asyncio

from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.reader import WholeReader, read_through


async def all_batches(connection: KafkaConnection, *topics: str, patience_s: float = 60.0) -> list[RecordBatch]:
    """Whatever the topics hold now, each partition's in order; fails if that does not come in time."""
    found: list[RecordBatch] = []
    async with WholeReader(connection=connection, topics=topics) as reader, asyncio.timeout(patience_s):
        await read_through(reader, found.append)
    return found
