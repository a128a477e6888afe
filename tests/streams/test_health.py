import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from streams.health import HealthPortError, HealthServer, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def get(server: HealthServer, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}{path}") as answer:
        return answer.status, await answer.text()


async def test_a_process_is_unhealthy_until_ready_but_alive_at_once() -> None:
    reasons = ["catching up"]
    server = HealthServer("127.0.0.1", 0, ready=lambda: reasons[0] if reasons else None)
    await server.start()
    try:
        assert await get(server, "/healthz") == (503, '{"status":"starting","reason":"catching up"}')
        assert await get(server, "/livez") == (200, '{"status":"ok"}')
        reasons.clear()
        assert await get(server, "/healthz") == (200, '{"status":"ok"}')
    finally:
        await server.stop()


async def test_work_waiting_while_nothing_is_processed_turns_healthz_to_503_and_progress_turns_it_back() -> None:
    clock, processed = Clock(), [0]
    watchdog = Watchdog(lag=lambda: 3, processed=lambda: processed[0], stall_s=60, exit_s=None, clock=clock)
    server = HealthServer("127.0.0.1", 0, watchdog=watchdog)
    await server.start()
    try:
        clock.now = 59
        assert (await get(server, "/healthz"))[0] == 200
        clock.now = 61
        status, body = await get(server, "/healthz")
        assert status == 503
        assert "3 records wait and none was processed for 61 s" in body
        processed[0] += 1
        assert (await get(server, "/healthz"))[0] == 200
    finally:
        await server.stop()


def test_an_idle_process_is_never_stalled() -> None:
    clock = Clock()
    watchdog = Watchdog(lag=lambda: 0, processed=lambda: 0, stall_s=1, exit_s=2, on_stall=pytest.fail, clock=clock)
    clock.now = 1e6
    assert watchdog.check() is None


def test_waiting_is_counted_from_when_the_work_arrived() -> None:
    clock, lag = Clock(), [0]
    watchdog = Watchdog(lag=lambda: lag[0], processed=lambda: 0, stall_s=10, exit_s=None, clock=clock)
    clock.now = 100
    watchdog.check()
    lag[0] = 1
    clock.now = 109
    assert watchdog.check() is None
    clock.now = 111
    assert watchdog.check() is not None


async def test_a_stall_that_lasts_ends_the_process_without_anybody_asking() -> None:
    ended = asyncio.Event()
    watchdog = Watchdog(lag=lambda: 1, processed=lambda: 0, stall_s=0.05, exit_s=0.1, on_stall=lambda _: ended.set())
    server = HealthServer("127.0.0.1", 0, watchdog=watchdog)
    await server.start()
    try:
        await asyncio.wait_for(ended.wait(), timeout=60)
    finally:
        await server.stop()


async def test_metrics_and_json_routes_answer_and_the_port_is_written_down(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Counter("alluvium_seen", "Seen.", registry=registry).inc(4)
    server = HealthServer(
        "127.0.0.1", 0, registry=registry, routes={"/progress": lambda: {"lag": 2}}, port_file=tmp_path / "port"
    )
    await server.start()
    try:
        assert (tmp_path / "port").read_text() == str(server.port)
        assert "alluvium_seen_total 4.0" in (await get(server, "/metrics"))[1]
        assert await get(server, "/progress") == (200, '{"lag":2}')
    finally:
        await server.stop()


async def test_a_port_that_is_taken_is_named_in_the_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HealthPortError, match=str(port)):
            await HealthServer("127.0.0.1", port).start()


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 < stall_s <= exit_s"):
        Watchdog(lag=lambda: 0, processed=lambda: 0, stall_s=10, exit_s=5)
