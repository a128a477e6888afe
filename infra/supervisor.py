"""Start, watch, restart, kill and stop the processes of a run; none is left behind, however the run ends."""

import contextlib
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from infra import processes
from infra.errors import ProcessFailedError

log = structlog.get_logger(__name__)

POLL_S = 0.05
HTTP_PATIENCE_S = 2.0
LONG_RUN_S = 30.0  # a process that ran this long failed for a new reason: start it again at once
FIRST_DELAY_S, LONGEST_DELAY_S = 0.25, 10.0
TAIL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process to supervise.

    Args:
        name: What it is called here; its log is `<name>.log`.
        argv: Program and arguments.
        env: Environment variables on top of this process's.
        ready_url: Answers 200 when the process is ready; None: ready as soon as it runs.
        restart: Whether to start it again when it ends by itself or is killed.
        max_failures: It is given up when it ended this often without having run for half a minute in between.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    restart: bool = True
    max_failures: int = 5


@dataclass(kw_only=True)
class _Watched:
    program: Program
    child: processes.Child
    started_s: float
    restarts: int = 0
    failures: int = 0
    restart_at_s: float | None = None  # ended, and due again then
    wanted: bool = True


class Supervisor:
    """The processes of one run.

    Use it as a context: leaving it, also by an exception, stops them all. If this process is killed with -9, the kernel
    kills them.

    Args:
        log_dir: Where each process's output is appended to `<name>.log`.
    """

    def __init__(self, *, log_dir: Path) -> None:
        self.log_dir = log_dir
        self._watched: dict[str, _Watched] = {}
        self._failure: ProcessFailedError | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(self, program: Program) -> None:
        """Start a process; see `wait_ready` for when it can be used.

        Raises:
            ValueError: If a process of that name is running.
        """
        with self._lock:
            old = self._watched.get(program.name)
            if old is not None and old.wanted:
                raise ValueError(f"process name is {program.name!r}; expected one that is not in use")
            self._watched[program.name] = _Watched(
                program=program, child=self._spawn(program), started_s=time.monotonic()
            )

    def wait_ready(self, *names: str, timeout_s: float = 60.0) -> None:
        """Return when the named processes, or all, answer on their `ready_url`.

        Raises:
            ProcessFailedError: If one was given up, or is not ready in time.
        """
        give_up_s = time.monotonic() + timeout_s
        for name in names or tuple(self._watched):
            while not self.is_ready(name):
                self.check()
                if time.monotonic() > give_up_s:
                    raise ProcessFailedError(
                        name=name, reason=f"was not ready within {timeout_s:.0f} s", log_tail=self.log_tail(name)
                    )
                time.sleep(POLL_S)

    def is_ready(self, name: str) -> bool:
        """Whether a process runs and says that it is ready."""
        with self._lock:
            watched = self._watched[name]
            running, url = watched.child.poll() is None, watched.program.ready_url
        return running and (url is None or answers(url))

    def check(self) -> None:
        """Raise if a process was given up.

        Raises:
            ProcessFailedError: With the end of its log.
        """
        if self._failure is not None:
            raise self._failure

    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, by name."""
        with self._lock:
            return {name: watched.child.pid for name, watched in self._watched.items() if watched.child.poll() is None}

    def restarts(self, name: str) -> int:
        """How often a process was started again."""
        return self._watched[name].restarts

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process, not to its children; if it dies of it, its `restart` decides what follows."""
        with self._lock:
            child = self._watched[name].child
            if child.poll() is None:
                log.info("process_signalled", name=name, signal=number.name)
                os.kill(child.pid, number)

    def stop(self, name: str, *, patience_s: float = 15.0) -> None:
        """End one process for good."""
        with self._lock:
            watched = self._watched[name]
            watched.wanted = False
        processes.end(watched.child, patience_s=patience_s)

    def stop_all(self, *, patience_s: float = 15.0) -> None:
        """End all processes, the last started first told; a second call does nothing."""
        self._stopping.set()
        with self._lock:
            running = [watched for watched in reversed(self._watched.values()) if watched.wanted]
            for watched in running:
                watched.wanted = False
                if watched.child.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(watched.child.pid, signal.SIGTERM)
        for watched in running:
            processes.end(watched.child, patience_s=patience_s)

    def log_tail(self, name: str) -> str:
        """The last lines that a process wrote."""
        path = self.log_dir / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return "\n".join(lines[-TAIL_LINES:])

    def _spawn(self, program: Program) -> processes.Child:
        with (self.log_dir / f"{program.name}.log").open("ab") as output:
            child = processes.spawn(
                program.argv, env={**os.environ, **program.env}, stdout=output, stderr=processes.STDOUT
            )
        log.info("process_started", name=program.name, pid=child.pid)
        return child

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            with self._lock:
                for watched in self._watched.values():
                    if watched.wanted and not self._stopping.is_set():
                        self._look_after(watched)

    def _look_after(self, watched: _Watched) -> None:
        now_s = time.monotonic()
        if watched.restart_at_s is not None:
            if now_s >= watched.restart_at_s:
                watched.child = self._spawn(watched.program)
                watched.started_s, watched.restart_at_s = now_s, None
                watched.restarts += 1
            return
        if watched.child.poll() is None:
            return
        status = processes.end_group(watched.child)  # its own children must not outlive it
        ran_s = now_s - watched.started_s
        watched.failures = 1 if ran_s > LONG_RUN_S else watched.failures + 1
        log.warning("process_ended", name=watched.program.name, status=status, ran_s=round(ran_s, 1))
        if not watched.program.restart or watched.failures > watched.program.max_failures:
            watched.wanted = False
            if status != 0 or watched.program.restart:
                self._failure = ProcessFailedError(
                    name=watched.program.name,
                    reason=f"ended with status {status} after {ran_s:.1f} s",
                    log_tail=self.log_tail(watched.program.name),
                )
            return
        delay_s = 0.0 if watched.failures == 1 else min(FIRST_DELAY_S * 2**watched.failures, LONGEST_DELAY_S)
        watched.restart_at_s = now_s + delay_s


def answers(url: str) -> bool:
    """Whether a URL answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=HTTP_PATIENCE_S) as reply:  # noqa: S310  # our own processes' addresses
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
