"""Start and stop child processes so that none is left behind, whatever happens to this one."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import IO

STDOUT = subprocess.STDOUT
LAUNCHER = Path(__file__).with_name("launcher.py")

Child = subprocess.Popen[bytes]
Stream = int | IO[bytes] | None


class _Spawner:
    """One thread that starts every child and lives as long as the process does.

    The kernel ties a child to the *thread* that started it: one started from a short-lived thread would die with it.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Child], Future[Child]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, start: Callable[[], Child]) -> Child:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="spawner", daemon=True)
                self._thread.start()
        started: Future[Child] = Future()
        self._work.put((start, started))
        return started.result()

    def _serve(self) -> None:
        while True:
            start, started = self._work.get()
            try:
                started.set_result(start())
            except OSError as error:
                started.set_exception(error)


_spawner = _Spawner()


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    death_signal: signal.Signals = signal.SIGKILL,
    uid: int = -1,
    gid: int = -1,
) -> Child:
    """Start a program in a process group of its own that receives `death_signal` when this process dies.

    Args:
        argv: Program and arguments.
        env: The whole environment; None: this process's.
        cwd: Where it runs; None: here.
        stdin: As for `subprocess.Popen`; nothing by default.
        stdout: As for `subprocess.Popen`.
        stderr: As for `subprocess.Popen`.
        death_signal: What the kernel sends it when this process dies (on Linux).
        uid: User to become; -1: stay.
        gid: Group to become; -1: stay.
    """
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), str(uid), str(gid)]

    def start() -> Child:
        return subprocess.Popen(
            [*launcher, "--", *argv],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    return _spawner.run(start)


def end(child: Child, *, first: signal.Signals = signal.SIGTERM, patience_s: float = 10.0) -> int:
    """Ask a child to stop, insist after `patience_s`, and clear away what is left of its process group.

    Returns:
        Its exit status, negative for a signal.
    """
    if child.poll() is None:
        child.send_signal(first)
        child.send_signal(signal.SIGCONT)  # a stopped process cannot obey
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
    return end_group(child)


def end_group(child: Child) -> int:
    """Kill whatever is left of a child's process group, the child included, and collect it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # start_new_session made the child's pid the group's
    status = child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    return status


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exit_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that every `with` block ends what it started."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
