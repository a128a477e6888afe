"""Looking at processes, and waiting for what they will do."""

import time
from collections.abc import Callable

import psutil


def is_running(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], *, patience_s: float = 60.0) -> None:
    """Return when the condition holds; fail if it does not in time."""
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.05)
