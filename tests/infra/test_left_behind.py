"""A whole running system goes with the command that started it, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import is_running, wait_until

ENVIRONMENT = {
    "ALLUVIUM_MODEL__TEXT_ENCODER": "hash",
    "ALLUVIUM_HTTP__WORKER_PORT": "16066",
    "ALLUVIUM_HTTP__LEARNER_PORT": "16166",
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_and_no_database_outlives_a_demo(number: signal.Signals, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "infra.cli", "demo", "--duration", "300", "--data-dir", str(tmp_path / "data")]
    environment = {**os.environ, **ENVIRONMENT}
    nothing = subprocess.DEVNULL
    with subprocess.Popen(argv, env=environment, stdin=nothing, stdout=nothing, stderr=nothing) as demo:
        try:
            wait_until(lambda: demo.poll() is not None or _has_all_parts(demo.pid), patience_s=120)
            assert demo.poll() is None, "it ended by itself"
            family = psutil.Process(demo.pid).children(recursive=True)
            (data,) = {_data_of(member) for member in family} - {None}
            os.kill(demo.pid, number)
            demo.wait(60)
        finally:
            demo.kill()
    wait_until(lambda: not any(is_running(member.pid) for member in family))
    wait_until(lambda: data is not None and not data.exists())


def _has_all_parts(pid: int) -> bool:
    commands = [" ".join(_command(member)) for member in psutil.Process(pid).children(recursive=True)]
    parts = ("infra.embedded.kafka", "infra.embedded.postgres", "infra.cli worker", "infra.cli learner")
    return all(any(part in command for command in commands) for part in parts)


def _data_of(member: psutil.Process) -> Path | None:
    """The folder of a Postgres server; None for other processes."""
    command = _command(member)
    return Path(command[2]).parent if command[1:2] == ["-D"] and command[0].endswith("/postgres") else None


def _command(member: psutil.Process) -> list[str]:
    try:
        return member.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it ended while we looked
        return []
