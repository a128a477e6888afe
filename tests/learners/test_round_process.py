"""A round in a child process: killed at any moment it leaves nothing, and it never outlives its parent."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from learners.errors import DivergedError, RoundFailedError, RoundTimeoutError
from learners.releases.release import load_release
from learners.rounds.process import RoundProcess, run_round_in_child, sweep_rounds
from tests.learners.rounds_data import TRAINING, ring

ENDLESS = dataclasses.replace(TRAINING, first_epochs=100_000, validation_share=0.0)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_child_does_what_the_parent_would_have_done(tmp_path: Path) -> None:
    short = ring(training=dataclasses.replace(TRAINING, first_epochs=2))
    short.save(tmp_path / "in")
    process = RoundProcess(tmp_path / "in", tmp_path / "out").start()
    assert process.pid is not None

    result = process.result()

    assert process.done()
    assert result.candidate == tmp_path / "out" / "candidate"
    assert load_release(tmp_path / "out" / "candidate").item_ids == short.item_ids
    assert left_in(tmp_path) == ["in", "out"]


def test_a_child_killed_while_training_leaves_nothing_and_says_how_it_died(tmp_path: Path) -> None:
    ring(training=ENDLESS).save(tmp_path / "in")
    process = RoundProcess(tmp_path / "in", tmp_path / "out").start()
    wait_for_a_step(process)
    assert process.pid is not None

    os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(RoundFailedError, match=r"exit code -9.*ended without a result"):
        process.result()
    assert left_in(tmp_path) == ["in"]


def test_a_child_is_killed_on_request(tmp_path: Path) -> None:
    ring(training=ENDLESS).save(tmp_path / "in")
    process = RoundProcess(tmp_path / "in", tmp_path / "out").start()
    process.kill()
    assert process.done()
    assert process.pid is not None
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(RoundTimeoutError, match="on request"):
        process.result()


def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    ring(training=ENDLESS).save(tmp_path / "in")
    with pytest.raises(RoundTimeoutError, match=r"longer than 0\.5 s"):
        run_round_in_child(tmp_path / "in", tmp_path / "out", timeout_s=0.5)
    assert left_in(tmp_path) == ["in"]


def test_a_child_whose_heart_stops_is_killed(tmp_path: Path) -> None:
    ring(training=ENDLESS).save(tmp_path / "in")
    process = RoundProcess(tmp_path / "in", tmp_path / "out", heartbeat_timeout_s=20).start()
    wait_for_a_step(process)
    process._heartbeat_timeout_s = 2.0
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(RoundTimeoutError, match="heartbeat stopped for more than 2 s"):
        process.result()


def test_a_round_that_diverges_is_the_same_error_here_as_there(tmp_path: Path) -> None:
    wild = dataclasses.replace(TRAINING, first_learning_rate=1e20, max_grad_norm=1e30, weight_decay=0.0)
    ring(training=wild).save(tmp_path / "in")
    with pytest.raises(DivergedError, match="at optimizer step"):
        run_round_in_child(tmp_path / "in", tmp_path / "out")
    assert left_in(tmp_path) == ["in"]


def test_an_input_that_is_not_there_fails_with_the_childs_last_words(tmp_path: Path) -> None:
    with pytest.raises(RoundFailedError, match=r"FileNotFoundError.*round\.json"):
        run_round_in_child(tmp_path / "nowhere", tmp_path / "out")
    assert left_in(tmp_path) == []


def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    long_enough = dataclasses.replace(TRAINING, first_epochs=60, validation_share=0.0)
    ring(training=long_enough).save(tmp_path / "in")
    process = RoundProcess(tmp_path / "in", tmp_path / "out").start()
    assert process.pid is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4_096, 4_096))
    with pytest.raises(RoundFailedError, match=r"ReleaseWriteError: cannot write .*candidate: .*File too large"):
        process.result()
    assert left_in(tmp_path) == ["in"]


_PARENT = """
import sys, time
from pathlib import Path
from learners.rounds.process import RoundProcess
folder = Path(sys.argv[1])
process = RoundProcess(folder / "in", folder / "out").start()
while process.progress() == (0, 0):
    time.sleep(0.05)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_child_dies_with_its_parent_and_the_next_start_sweeps_up(tmp_path: Path) -> None:
    ring(training=ENDLESS).save(tmp_path / "in")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not (tmp_path / "out").exists()

    sweep_rounds(tmp_path)

    assert left_in(tmp_path) == ["in"]


def wait_for_a_step(process: RoundProcess) -> None:
    deadline = time.monotonic() + 60
    while process.progress() == (0, 0):
        assert not process.done()
        assert time.monotonic() < deadline
        time.sleep(0.05)
