"""One measured run of `bench ingest` in a process of its own: a transport, a kind of work, a number of events."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any
from uuid import uuid4

import faust

from streams import collector
from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.faust_app import batch_topic, make_app
from streams.topics import CLICKSTREAM_EVENTS
from streams.transport import committed_offsets
from streams.validation import validate
from streams.worker import Worker

MAX_BATCH = 20_000
WITHIN_S = 0.1
SKEW_MS = 300_000

Work = Callable[[RecordBatch], Awaitable[asyncio.Task[None] | None]]


class Meter:
    """Counts processed events; the clock runs from the arrival of the first to the end of the last.

    Args:
        expected: Events to process.
    """

    def __init__(self, expected: int) -> None:
        self.expected, self.done = expected, 0
        self.finished = asyncio.Event()
        self._started: float | None = None
        self._cpu_began = 0.0
        self.seconds = self.cpu_s = 0.0

    async def measure(self, batch: RecordBatch, work: Work) -> asyncio.Task[None] | None:
        """Do the work on a batch; gives what of it goes on behind. A batch counts when all of it is done."""
        if self._started is None:
            self._started, self._cpu_began = time.perf_counter(), time.process_time()
        behind = await work(batch)
        if behind is None:
            self._count(len(batch))
        else:
            behind.add_done_callback(lambda task: None if task.exception() else self._count(len(batch)))
        return behind

    def _count(self, events: int) -> None:
        self.done += events
        if self.done >= self.expected and self._started is not None and not self.finished.is_set():
            self.seconds, self.cpu_s = time.perf_counter() - self._started, time.process_time() - self._cpu_began
            self.finished.set()


async def decode_only(batch: RecordBatch) -> None:
    """Decode and validate, nothing else."""
    validate(batch, allowed_skew_ms=SKEW_MS)


def pipeline(worker: Worker) -> Work:
    """The steps of the worker's ingest agent (`streams/app.py`), ranking left out."""

    async def work(batch: RecordBatch) -> asyncio.Task[None]:
        interactions, rejected = validate(batch, allowed_skew_ms=SKEW_MS)
        async with worker.users.turn() as users:
            outcome = await users.sort_out(batch, interactions, rejected)
            flush = await users.prepare(outcome)
            return await users.take_effect(flush, sending=partial(worker.outbox.send, outcome))

    return work


def batching_app(connection: KafkaConnection, meter: Meter, work: Work, worker: Worker | None) -> Any:
    """Our transport: each fetched run of records is one Faust message."""
    app = make_app(
        f"bench-{uuid4()}",
        connection=connection,
        hot_topics=[CLICKSTREAM_EVENTS],
        max_batch_events=MAX_BATCH,
        start_offset=committed_offsets if worker is None else worker.start_offset,
    )

    @app.agent(batch_topic(app, CLICKSTREAM_EVENTS), concurrency=1)
    async def ingest(batches: Any) -> None:
        async for batch in batches:
            if (behind := await meter.measure(batch, work)) is not None:
                batches.settle(behind)

    return app


def stock_app(connection: KafkaConnection, meter: Meter, work: Work) -> Any:
    """Faust as it comes: one message per record, gathered by the stream's own `take`."""
    app = faust.App(
        f"bench-{uuid4()}",
        broker=f"kafka://{connection.bootstrap_servers}",
        autodiscover=False,
        datadir=f"{tempfile.gettempdir()}/alluvium-faust",
        key_serializer="raw",
        value_serializer="raw",
        broker_max_poll_records=MAX_BATCH,
        stream_buffer_maxsize=4 * MAX_BATCH,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )

    @app.agent(app.topic(CLICKSTREAM_EVENTS, key_type=bytes, value_type=bytes), concurrency=1)
    async def ingest(stream: Any) -> None:
        async for events in stream.take_events(MAX_BATCH, within=WITHIN_S):
            behind = [await meter.measure(batch, work) for batch in by_partition(events)]
            await asyncio.gather(*filter(None, behind))  # Faust's own `take` acknowledges all of them after this body

    return app


def by_partition(events: Iterable[Any]) -> list[RecordBatch]:
    """The same batches that our transport gives, from single Faust events."""
    runs: dict[int, list[Any]] = defaultdict(list)
    for event in events:
        runs[event.message.partition].append(event.message)
    return [
        RecordBatch(
            topic=CLICKSTREAM_EVENTS,
            partition=partition,
            offsets=[m.offset for m in messages],
            keys=[m.key for m in messages],
            values=[m.value for m in messages],
            timestamps_ms=[int(m.timestamp * 1000) for m in messages],
        )
        for partition, messages in runs.items()
    ]


async def run(*, transport: str, work: str, bootstrap_servers: str, postgres_url: str, events: int) -> dict[str, float]:
    """Process `events` events and say how long it took."""
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    worker = None
    if work == "pipeline":
        worker = await Worker.create(
            connection=connection, postgres_url=postgres_url, allowed_lateness_ms=3_600_000, allowed_skew_ms=SKEW_MS
        )
    meter = Meter(events)
    does = decode_only if worker is None else pipeline(worker)
    if transport == "batching":
        app = batching_app(connection, meter, does, worker)
    else:
        app = stock_app(connection, meter, does)
        if worker is not None:
            for partition in range(await worker.publisher.partitions(CLICKSTREAM_EVENTS)):
                await worker.start_offset(CLICKSTREAM_EVENTS, partition)
    collector.calm()
    await app.start()
    await asyncio.wait_for(meter.finished.wait(), 600)
    rate, cpu_us = meter.done / meter.seconds, 1e6 * meter.cpu_s / meter.done
    return {"events": meter.done, "seconds": meter.seconds, "events_per_s": rate, "cpu_us_per_event": cpu_us}


if __name__ == "__main__":
    result = asyncio.new_event_loop().run_until_complete(run(**json.loads(sys.argv[1])))
    print(json.dumps(result), flush=True)
    os._exit(0)  # a measured process is not worth an orderly end
