"""The `alluvium worker` process: the Faust app with its parts, HTTP beside it, until a signal or a crash."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from streams import collector
from streams.app import worker_app
from streams.clients import KafkaConnection
from streams.health import HealthServer, Watchdog
from streams.worker import Worker

log = structlog.get_logger(__name__)

STOP_DEADLINE_S = 45.0
EXIT_CRASHED = 1


async def run_worker(
    *,
    connection: KafkaConnection,
    http_host: str,
    http_port: int,
    port_file: Path | None = None,
    max_batch_events: int = 20_000,
    linger_ms: int = 100,
    session_timeout_s: float = 45.0,
    instance_id: str | None = None,
    stall_s: float = 60.0,
    exit_s: float = 120.0,
    **worker_settings: Any,
) -> int:
    """Run a worker until SIGTERM, SIGINT or a crash; returns the exit status.

    Args:
        connection: Where Kafka is.
        http_host: Address of `/healthz`, `/metrics` and `/progress`.
        http_port: Its port; 0 takes any free one.
        port_file: Receives the chosen port.
        max_batch_events: Most events in one flush.
        linger_ms: Least time between two flushes of one partition.
        session_timeout_s: How long Kafka waits for a silent worker before its partitions move.
        instance_id: Name under which a restarted worker takes its partitions up again without waiting.
        stall_s: Seconds without progress, though records wait, after which `/healthz` says 503.
        exit_s: Seconds after which the process then ends itself.
        worker_settings: See `Worker`.

    Raises:
        KafkaUnavailableError: If no broker answers at start.
        HealthPortError: If the address cannot be bound.
    """
    worker = await Worker.create(connection=connection, **worker_settings)
    collector.calm()
    app = worker_app(
        worker,
        max_batch_events=max_batch_events,
        linger_ms=linger_ms,
        session_timeout_s=session_timeout_s,
        instance_id=instance_id,
    )

    @app.on_partitions_revoked.connect
    async def give_up(_app: Any, revoked: Any, **_: Any) -> None:
        await worker.revoke({(tp.topic, tp.partition) for tp in revoked})

    def lag() -> int:
        return sum(app.consumer.lags().values()) if worker.owned and app.started else 0

    def processed() -> int:
        return worker.users.processed + worker.items.processed

    health = HealthServer(
        http_host,
        http_port,
        ready=worker.waits_for,
        watchdog=Watchdog(lag=lag, processed=processed, stall_s=stall_s, exit_s=exit_s),
        routes={"/progress": lambda: worker.progress() | {"lag": lag()}},
        port_file=port_file,
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await health.start()
    try:
        await app.start()
        return await _until(app, stopping)
    finally:
        loop.call_later(STOP_DEADLINE_S, os._exit, EXIT_CRASHED)  # whatever hangs, the ledger knows how far we were
        with contextlib.suppress(Exception):
            await asyncio.wait_for(app.stop(), STOP_DEADLINE_S / 2)
        await health.stop()
        await worker.stop()


async def _until(app: Any, stopping: asyncio.Event) -> int:
    """Wait for a signal, or for the app to crash: then leave at once, so that nothing more is acknowledged."""
    while not stopping.is_set():
        if app.crashed or app.should_stop:
            reason = getattr(app, "crash_reason", None) or getattr(app, "_crash_reason", None)
            log.critical("worker_crashed", error=repr(reason))
            sys.stderr.flush()
            os._exit(EXIT_CRASHED)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 0.2)
    return 0
