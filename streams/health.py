"""What a process says of itself over HTTP: `/healthz`, `/metrics` for Prometheus, JSON routes, and a watchdog.

A process that hangs looks alive to Kafka (heartbeats come from another thread) and to Faust (its own detectors never
fire), so each process here answers for its progress: work waiting and none done for a while means 503, then exit.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from streams.errors import StreamsError

log = structlog.get_logger(__name__)

EXIT_STALLED = 70  # "internal software error" of sysexits.h: the supervisor starts the process again


class HealthPortError(StreamsError, OSError):
    """The HTTP address cannot be bound."""

    def __init__(self, *, host: str, port: int, cause: str) -> None:
        super().__init__(f"HTTP address is {host}:{port}; expected one that is free and ours to bind: {cause}")
        self.host, self.port = host, port


def exit_at_once(reason: str) -> None:
    """Print every thread's stack and leave, without waiting for whatever hangs."""
    sys.stderr.write(f"alluvium: exiting: {reason}\n")
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_STALLED)


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Work has waited for `waited_s` seconds while nothing was processed."""

    waited_s: float
    lag: int

    def __str__(self) -> str:
        return f"{self.lag} records wait and none was processed for {self.waited_s:.0f} s"


class Watchdog:
    """Notice a process that has work and does none of it.

    Args:
        lag: Records known to wait; any number up to 0 means "idle", which is never a stall.
        processed: A number that grows whenever work is done.
        stall_s: Seconds without progress that make the process unhealthy; above 0.
        exit_s: Seconds without progress after which `on_stall` is called; at least `stall_s`. None: never.
        on_stall: Ends the process; by default at once, with the stacks of all threads on standard error.
        clock: Monotonic seconds.

    Raises:
        ValueError: If the two limits contradict each other.

    >>> now = [0.0]
    >>> watchdog = Watchdog(lag=lambda: 5, processed=lambda: 7, stall_s=60, exit_s=None, clock=lambda: now[0])
    >>> watchdog.check() is None
    True
    >>> now[0] = 61.0
    >>> str(watchdog.check())
    '5 records wait and none was processed for 61 s'
    """

    def __init__(
        self,
        *,
        lag: Callable[[], int],
        processed: Callable[[], int],
        stall_s: float = 60.0,
        exit_s: float | None = 120.0,
        on_stall: Callable[[str], None] = exit_at_once,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if stall_s <= 0 or (exit_s is not None and exit_s < stall_s):
            raise ValueError(f"stall_s is {stall_s} and exit_s is {exit_s}; expected 0 < stall_s <= exit_s")
        self._lag, self._processed, self._clock = lag, processed, clock
        self._stall_s, self._exit_s, self._on_stall = stall_s, exit_s, on_stall
        self._last_count = processed()
        self._last_progress = clock()

    @property
    def interval_s(self) -> float:
        """How often to look."""
        return min(5.0, self._stall_s / 4)

    def check(self) -> Stall | None:
        """Look now; the stall, if there is one. Calls `on_stall` when it has lasted too long."""
        now, count, lag = self._clock(), self._processed(), self._lag()
        if count != self._last_count or lag <= 0:
            self._last_count, self._last_progress = count, now
            return None
        waited_s = now - self._last_progress
        if waited_s < self._stall_s:
            return None
        stall = Stall(waited_s=waited_s, lag=lag)
        if self._exit_s is not None and waited_s >= self._exit_s:
            self._on_stall(str(stall))
        return stall


def _ready() -> str | None:
    return None


class HealthServer:
    """Answer for this process over HTTP.

    `/livez` is 503 while the watchdog sees a stall; `/healthz` also while the process is not ready; `/metrics` is
    Prometheus text; every further route answers with what its function returns, as JSON.

    Args:
        host: Address to bind.
        port: Port to bind; 0 takes any free one (see `port` after `start`, or `port_file`).
        ready: Why the process is not ready yet, or None when it is; called on the event loop, so it must not block.
        watchdog: Notices stalls, if given; it is looked at in the background too, so that it can end the process.
        routes: Path -> function whose value is sent as JSON; called on the event loop.
        registry: Where the metrics are.
        port_file: Receives the chosen port, once it is open.

    Raises:
        HealthPortError: On `start`, if the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ready: Callable[[], str | None] = _ready,
        watchdog: Watchdog | None = None,
        routes: Mapping[str, Callable[[], Any]] | None = None,
        registry: CollectorRegistry = REGISTRY,
        port_file: Path | None = None,
    ) -> None:
        self.host, self.port = host, port
        self._ready, self._watchdog, self._registry, self._port_file = ready, watchdog, registry, port_file
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/metrics", self._metrics)
        for path, describe in (routes or {}).items():
            application.router.add_get(path, _json_route(describe))
        if watchdog is not None:
            application.cleanup_ctx.append(_watching(watchdog))
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Open the port and answer from now on."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise HealthPortError(host=self.host, port=self.port, cause=error.strerror or str(error)) from error
        self.port = int(self._runner.addresses[0][1])
        if self._port_file is not None:
            # renamed into place: a reader that waits for the file never sees it empty
            draft = self._port_file.with_name(self._port_file.name + ".tmp")
            draft.write_text(str(self.port))
            draft.replace(self._port_file)
        log.info("http_open", host=self.host, port=self.port)

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        stall = self._watchdog.check() if self._watchdog else None
        return _answer("stalled", str(stall)) if stall else _answer("ok")

    async def _healthz(self, request: web.Request) -> web.Response:
        waits_for = self._ready()
        return _answer("starting", waits_for) if waits_for is not None else await self._livez(request)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(status: str, reason: str | None = None) -> web.Response:
    body = {"status": status} if reason is None else {"status": status, "reason": reason}
    code = 200 if status == "ok" else 503
    return web.Response(body=msgspec.json.encode(body), status=code, content_type="application/json")


def _json_route(describe: Callable[[], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(describe()), content_type="application/json")

    return answer


def _watching(watchdog: Watchdog) -> Callable[[web.Application], AsyncIterator[None]]:
    async def watch() -> None:
        while True:
            await asyncio.sleep(watchdog.interval_s)
            watchdog.check()

    async def context(_application: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(watch(), name="watchdog")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return context
