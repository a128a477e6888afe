"""A process ends in order when it is asked to, and is cut off where it hangs."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams import stopping
from streams.stopping import ended

PROGRAM = """
import asyncio, sys
from streams.stopping import run_until_stopped

class Health:
    async def start(self): print("health starts", flush=True)
    async def stop(self): print("health stops", flush=True)

class Process:
    def __init__(self, way):
        self.way, self.stopping = way, asyncio.Event()
    async def run(self):
        if self.way == "fails":
            raise ValueError("of its own")
        print("works", flush=True)
        await self.stopping.wait()
        print("writes a checkpoint", flush=True)
    async def close(self):
        if self.way == "hangs":
            await asyncio.sleep(3600)
        print("closes", flush=True)

async def main(way):
    return await run_until_stopped(Process(way), Health(), deadline_s=0.3 if way == "hangs" else 60)

sys.exit(asyncio.run(main(sys.argv[1])))
"""
ROOT = Path(__file__).parents[2]


def start(way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, way],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said_before_working(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(2)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_work_first_then_the_answers_then_the_connections(number: signal.Signals) -> None:
    process = start("works")
    assert said_before_working(process) == ["health starts", "works"]

    process.send_signal(number)
    out, _ = process.communicate(timeout=60)

    assert out.splitlines() == ["writes a checkpoint", "health stops", "closes"]
    assert process.returncode == 0


def test_what_hangs_while_it_closes_is_cut_off() -> None:
    process = start("hangs")
    said_before_working(process)

    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)

    assert out.splitlines() == ["writes a checkpoint", "health stops"]
    assert process.returncode == 1


def test_a_process_that_fails_is_closed_and_its_error_is_told() -> None:
    process = start("fails")

    out, errors = process.communicate(timeout=60)

    assert out.splitlines() == ["health starts", "health stops", "closes"]
    assert errors.strip().endswith("ValueError: of its own")
    assert process.returncode == 1


async def test_a_task_that_forgets_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "CANCEL_AGAIN_S", 0.01)

    async def forgets(times: int) -> str:
        for _ in range(times):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        return "of itself"

    async def fails() -> None:
        raise ValueError("of its own")

    tasks = [asyncio.create_task(forgets(0)), asyncio.create_task(forgets(3)), asyncio.create_task(asyncio.sleep(3600))]
    failed = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.wait_for(ended([*tasks, failed]), 30)
    assert [task.cancelled() or task.result() for task in tasks] == ["of itself", "of itself", True]
    assert isinstance(failed.exception(), ValueError)
    await ended([])
