"""Ports reserved for processes that bind them later."""

import socket
import subprocess
import sys

import pytest

from infra.ports import reserved_port

HOST = "127.0.0.1"


def free() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def test_two_processes_to_be_do_not_get_one_port():
    wanted = free()
    with reserved_port(HOST, wanted) as first, reserved_port(HOST, wanted) as second:
        assert first != second
        for port in (first, second):  # nothing but a lock holds it: it is the process's to bind
            with socket.create_server((HOST, port)):
                pass


def test_a_port_that_somebody_listens_at_is_passed_over():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with reserved_port(HOST, port) as given:
            assert given != port


def test_a_port_is_given_again_when_it_is_let_go():
    wanted = free()
    with reserved_port(HOST, wanted) as first:
        pass
    with reserved_port(HOST, wanted) as again:
        assert first == again == wanted


def test_another_process_of_the_machine_is_passed_over_until_it_is_killed():
    wanted = free()
    hold = f"""
from infra.ports import reserved_port
with reserved_port({HOST!r}, {wanted}) as port:
    print(port, flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold], text=True, **pipes) as other:
        try:
            assert other.stdout is not None
            assert int(other.stdout.readline()) == wanted
            with reserved_port(HOST, wanted) as given:
                assert given != wanted
        finally:
            other.kill()
    with reserved_port(HOST, wanted) as given:
        assert given == wanted


def test_a_host_that_is_not_ours_is_said():
    with pytest.raises(OSError, match=r"192\.0\.2\.1:6066"), reserved_port("192.0.2.1", 6066):
        pass
