"""TCP ports given to processes that bind them only seconds later, when they have loaded: no two get the same."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TRIED = 100  # ports tried one after the other, before any free one is taken


@contextmanager
def reserved_port(host: str, wanted: int) -> Iterator[int]:
    """A port that nobody listens at and that nobody else is given by this function until the context is left.

    Args:
        host: Address to bind.
        wanted: The first port tried; the next ones follow, then any.

    Yields:
        The port, for a process to bind, again and again if it is restarted.

    Raises:
        OSError: If the host has no free port, or is not ours to bind.
    """
    with ExitStack() as held:
        for port in (*range(wanted, min(wanted + TRIED, 65_536)), *(0,) * TRIED):
            free = _free(host, port)
            if free is not None and _held(free, held):
                yield free
                return
        raise OSError(f"HTTP address is {host}:{wanted}; expected one that is ours to bind, with a free port")


def _free(host: str, port: int) -> int | None:
    """The port, or the one that the system chose for 0; None if somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the HTTP server binds it
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _held(port: int, held: ExitStack) -> bool:
    """Take the machine-wide lock of a port, which goes with this process however it ends; False if it is taken."""
    folder = Path(tempfile.gettempdir()) / f"alluvium-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = (folder / str(port)).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    held.callback(lock.close)
    return True
