"""Reading all that a topic holds."""

import asyncio

from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.reader import WholeReader
from streams.stopping import ended


async def all_batches(connection: KafkaConnection, *topics: str, patience_s: float = 60.0) -> list[RecordBatch]:
    """Whatever the topics hold now, each partition's in order; fails if that does not come in time."""
    found: list[RecordBatch] = []
    async with WholeReader(connection=connection, topics=topics) as reader:

        async def read() -> None:
            async for batch in reader:
                found.append(batch)  # noqa: PERF401 - a list that is made at once is lost when this is cancelled

        reading = asyncio.create_task(read())
        caught_up = asyncio.create_task(reader.caught_up.wait())
        await asyncio.wait({reading, caught_up}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        failed, complete = reading.done(), caught_up.done()
        await ended((reading, caught_up))
    if failed:
        reading.result()
    assert complete, f"read {sum(map(len, found))} records of {topics} in {patience_s:g} s, and not all"
    return found
