"""A round in a process of its own: killed at any moment it leaves only a temporary directory; it dies with its parent.

The parent hands over directories, never tensors; CUDA is first touched in the child.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from learners.disk import TEMPORARY_PREFIX, sweep, whole_directory, write_whole
from learners.errors import DivergedError, LearnerError, RoundFailedError, RoundTimeoutError
from learners.rounds.round import RESULT, RoundInput, RoundResult, run_round

_HEARTBEAT, _LOG, _ERROR = "heartbeat.json", "round.log", "error.json"
_BEAT_EVERY_S = 0.5
_LOOK_EVERY_S = 0.1
_TAIL_BYTES = 600
_EXIT_KNOWN_ERROR = 3


class RoundProcess:
    """One round, running in a child process.

    `start` returns at once; ask `done()` now and then, or `wait()`, then take `result()`. A thread of its own starts
    child and watches it, because the kernel kills the child when the *thread* that started it ends.

    Args:
        input_dir: What `RoundInput.save` wrote.
        out_dir: Appears whole when the round is over: `result.json` and, unless empty, `candidate/`. Must not exist.
        timeout_s: The child is killed after this long.
        heartbeat_timeout_s: The child is killed when it has not finished an optimizer step for this long.
        python: Interpreter to run the child with.
    """

    def __init__(
        self,
        input_dir: Path,
        out_dir: Path,
        *,
        timeout_s: float = 600.0,
        heartbeat_timeout_s: float = 120.0,
        python: str = sys.executable,
    ) -> None:
        self.input_dir, self.out_dir = input_dir, out_dir
        self.pid: int | None = None
        self._timeout_s, self._heartbeat_timeout_s, self._python = timeout_s, heartbeat_timeout_s, python
        self._work = out_dir.parent / f"{TEMPORARY_PREFIX}work-{out_dir.name}"
        self._killed: str | None = None
        self._exit_code: int | None = None
        self._started, self._finished = threading.Event(), threading.Event()
        self._kill = threading.Event()
        self._failure: OSError | None = None

    def start(self) -> "RoundProcess":
        """Start the child and return once it has a process id.

        Raises:
            RoundFailedError: If no process could be started.
        """
        self._work.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._watch, name="round", daemon=True).start()
        self._started.wait()
        if self._failure is not None:
            raise RoundFailedError(exit_code=None, reason=str(self._failure)) from self._failure
        return self

    def done(self) -> bool:
        """Return whether the child has ended, in whatever way."""
        return self._finished.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; returns whether it came."""
        return self._finished.wait(timeout_s)

    def kill(self) -> None:
        """Kill the child and wait until it is gone."""
        self._kill.set()
        self._finished.wait()

    def progress(self) -> tuple[int, int]:
        """Return optimizer steps done and the most there can be; (0, 0) before the first."""
        try:
            beat = json.loads((self._work / _HEARTBEAT).read_bytes())
            return int(beat["step"]), int(beat["steps"])
        except (OSError, ValueError, KeyError):
            return 0, 0

    def result(self) -> RoundResult:
        """Wait for the end and return what came of it.

        Raises:
            DivergedError: If the loss stopped being finite.
            RoundTimeoutError: If the child was killed for taking too long.
            RoundFailedError: If it ended without a result.
        """
        self._finished.wait()
        try:
            if (self.out_dir / RESULT).exists():
                return RoundResult.load(self.out_dir)
            raise self._error()
        finally:
            sweep_work(self._work)

    def _error(self) -> LearnerError:
        if self._killed is not None:
            return RoundTimeoutError(exit_code=self._exit_code, reason=self._killed)
        try:
            known = json.loads((self._work / _ERROR).read_bytes())
        except (OSError, ValueError):
            tail = _tail(self._work / _LOG)
            return RoundFailedError(exit_code=self._exit_code, reason="it ended without a result", log_tail=tail)
        if known["error"] == DivergedError.__name__:
            return DivergedError(step=known["step"], loss=float(known["loss"]))
        return RoundFailedError(exit_code=self._exit_code, reason=f"{known['error']}: {known['message']}")

    def _watch(self) -> None:
        command = [self._python, "-m", "learners.rounds.process", str(self.input_dir), str(self.out_dir)]
        command += ["--work", str(self._work), "--parent", str(os.getpid())]
        try:
            with (self._work / _LOG).open("wb") as log:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            self._failure = error
            self._started.set()
            self._finished.set()
            return
        self.pid = child.pid
        self._started.set()
        began = time.monotonic()
        while child.poll() is None:
            if (reason := self._overdue(began)) is not None:
                self._killed = reason
                child.kill()
                child.wait()
            self._kill.wait(_LOOK_EVERY_S)
        self._exit_code = child.returncode
        self._finished.set()

    def _overdue(self, began: float) -> str | None:
        if self._kill.is_set():
            return "it was killed on request"
        if (ran_s := time.monotonic() - began) > self._timeout_s:
            return f"it ran longer than {self._timeout_s:g} s"
        try:
            silent_s = time.time() - (self._work / _HEARTBEAT).stat().st_mtime
        except FileNotFoundError:
            silent_s = ran_s
        if silent_s > self._heartbeat_timeout_s:
            return f"its heartbeat stopped for more than {self._heartbeat_timeout_s:g} s"
        return None


def run_round_in_child(
    input_dir: Path,
    out_dir: Path,
    *,
    timeout_s: float = 600.0,
    heartbeat_timeout_s: float = 120.0,
) -> RoundResult:
    """Run one round in a child process and wait for it; arguments and errors as in `RoundProcess`."""
    process = RoundProcess(input_dir, out_dir, timeout_s=timeout_s, heartbeat_timeout_s=heartbeat_timeout_s)
    return process.start().result()


def sweep_rounds(folder: Path) -> list[Path]:
    """Remove what killed rounds left in `folder`; call it at start, when no round runs. Returns what went."""
    return sweep(folder)


def sweep_work(work: Path) -> None:
    """Remove one round's working directory, and what its child left beside it if it was killed while writing."""
    name = work.name.removeprefix(f"{TEMPORARY_PREFIX}work-")
    shutil.rmtree(work, ignore_errors=True)
    for path in work.parent.glob(f"{TEMPORARY_PREFIX}{name}-*"):
        shutil.rmtree(path, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one round: the child's side of `RoundProcess`."""
    parser = argparse.ArgumentParser(prog="learners.rounds.process")
    parser.add_argument("input_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    round_input = RoundInput.load(options.input_dir)
    torch.set_num_threads(round_input.training.threads)
    try:
        with whole_directory(options.out_dir) as folder:
            _run(round_input, folder, heartbeat(options.work / _HEARTBEAT))
    except LearnerError as error:
        known: dict[str, str | int] = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, DivergedError):
            known |= {"step": error.step, "loss": str(error.loss)}
        write_whole(options.work / _ERROR, json.dumps(known).encode())
        return _EXIT_KNOWN_ERROR
    return 0


def _run(round_input: RoundInput, folder: Path, beat: Callable[[int, int], None]) -> RoundResult:
    if round_input.donors is None:
        return run_round(round_input, folder, beat=beat)
    from learners.knowledge.starting import run_from_donors  # noqa: PLC0415 - most rounds need no knowledge

    return run_from_donors(round_input, folder, beat=beat)


def heartbeat(path: Path) -> Callable[[int, int], None]:
    """Return a function that notes progress in `path`, at most twice a second."""
    last = 0.0

    def beat(step: int, steps: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _BEAT_EVERY_S:
            last = now
            path.write_text(json.dumps({"step": step, "steps": steps}), encoding="utf-8")

    return beat


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent's thread ends; exit at once if the parent is gone already."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
