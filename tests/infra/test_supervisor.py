"""The supervisor starts, watches, restarts and ends processes, and leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import processes
from infra.errors import ProcessFailedError
from infra.supervisor import Program, Supervisor
from tests.waiting import is_running, wait_until

SLEEPER = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
WITH_CHILD = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""
SERVER = """
import http.server, sys, time
time.sleep(0.3)
class Answer(http.server.BaseHTTPRequestHandler):
    ready_s = time.monotonic() + 0.5
    def do_GET(self):
        self.send_response(200 if time.monotonic() > self.ready_s else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
RUN = """
import sys, time
from pathlib import Path
from infra import logs, processes
from infra.supervisor import Program, Supervisor
logs.configure()
processes.exit_on_sigterm()
with Supervisor(log_dir=Path(sys.argv[1])) as supervisor:
    for name in ("one", "two"):
        supervisor.start(Program(name=name, argv=[sys.executable, "-c", "import time; time.sleep(60)"]))
    print(*supervisor.pids().values(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(log_dir=tmp_path / "logs") as running:
        yield running


def python(name: str, code: str, *arguments: str, ready_url: str | None = None, restart: bool = True) -> Program:
    return Program(name=name, argv=[sys.executable, "-c", code, *arguments], ready_url=ready_url, restart=restart)


def test_a_process_is_ready_when_its_url_answers_200(supervisor: Supervisor) -> None:
    port = processes.free_port()
    supervisor.start(python("server", SERVER, str(port), ready_url=f"http://127.0.0.1:{port}/healthz"))
    assert not supervisor.is_ready("server")
    supervisor.wait_ready(timeout_s=20)
    assert supervisor.is_ready("server")


def test_a_killed_process_is_started_again_with_the_same_name(supervisor: Supervisor) -> None:
    supervisor.start(python("sleeper", SLEEPER))
    first = supervisor.pids()["sleeper"]
    supervisor.kill("sleeper")
    wait_until(lambda: supervisor.pids().get("sleeper", first) != first)
    assert supervisor.restarts("sleeper") == 1


def test_a_process_that_is_not_to_be_restarted_stays_down(supervisor: Supervisor) -> None:
    supervisor.start(python("once", "raise SystemExit(0)", restart=False))
    wait_until(lambda: not supervisor.pids())
    time.sleep(0.3)
    supervisor.check()
    assert supervisor.restarts("once") == 0


def test_a_process_that_keeps_failing_is_given_up_with_its_last_words(supervisor: Supervisor) -> None:
    words = "import sys; sys.exit('no such topic')"
    supervisor.start(Program(name="broken", argv=[sys.executable, "-c", words], max_failures=1))
    with pytest.raises(ProcessFailedError, match=r"(?s)process 'broken' ended with status 1.*no such topic"):
        _check_until_it_fails(supervisor)


def test_a_stopped_process_is_ended_all_the_same(supervisor: Supervisor) -> None:
    supervisor.start(python("sleeper", SLEEPER))
    pid = supervisor.pids()["sleeper"]
    supervisor.kill("sleeper", signal.SIGSTOP)
    supervisor.stop("sleeper")
    assert not is_running(pid)


def test_a_process_that_ignores_sigterm_is_killed(supervisor: Supervisor) -> None:
    supervisor.start(python("stubborn", STUBBORN))
    pid = supervisor.pids()["stubborn"]
    wait_until(lambda: "deaf" in supervisor.log_tail("stubborn"))
    supervisor.stop("stubborn", patience_s=0.3)
    assert not is_running(pid)


def test_children_of_a_killed_process_go_with_it(supervisor: Supervisor) -> None:
    supervisor.start(python("parent", WITH_CHILD, restart=False))
    wait_until(lambda: supervisor.log_tail("parent") != "")
    grandchild = int(supervisor.log_tail("parent"))
    supervisor.kill("parent")
    wait_until(lambda: not is_running(grandchild))


def test_a_name_is_used_once(supervisor: Supervisor) -> None:
    supervisor.start(python("sleeper", SLEEPER))
    with pytest.raises(ValueError, match="'sleeper'; expected one that is not in use"):
        supervisor.start(python("sleeper", SLEEPER))


def test_an_error_in_the_run_ends_every_process(tmp_path: Path) -> None:
    pids: dict[str, int] = {}

    def run() -> None:
        with Supervisor(log_dir=tmp_path) as supervisor:
            supervisor.start(python("sleeper", SLEEPER))
            pids.update(supervisor.pids())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert not is_running(pids["sleeper"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_signal_to_the_run_leaves_a_process_behind(number: signal.Signals, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        os.kill(run.pid, number)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def _check_until_it_fails(supervisor: Supervisor) -> None:
    for _ in range(200):
        supervisor.check()
        time.sleep(0.05)
