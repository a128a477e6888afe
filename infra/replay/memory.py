"""How much memory processes took at most: sampled, so a peak between two samples may be missed."""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import psutil

SAMPLE_S = 0.5


class PeakMemory:
    """Watch processes and their children while the context lasts; a name keeps its peak over restarts.

    Args:
        pids: Gives the process ids by name, as they are now.
        sample_s: Seconds between samples.

    Attributes:
        peak_bytes: Resident memory by name, so far.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]], *, sample_s: float = SAMPLE_S) -> None:
        self.peak_bytes: dict[str, int] = {}
        self._pids = pids
        self._sample_s = sample_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for name, pid in self._pids().items():
                for part, size in resident_bytes(name, pid).items():
                    self.peak_bytes[part] = max(self.peak_bytes.get(part, 0), size)
            if self._stopping.wait(self._sample_s):
                return


def resident_bytes(name: str, pid: int) -> dict[str, int]:
    """Resident memory of a process under its name, and of all its children together under `name:children`.

    Pages that processes share are counted for each, so the children of Postgres look larger than they are.
    """
    sizes: dict[str, int] = {}
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        sizes[name] = process.memory_info().rss
        children = [] if pid == os.getpid() else process.children(recursive=True)  # ours have names of their own
        for child in children:
            with contextlib.suppress(psutil.Error):
                part = f"{name}:children"
                sizes[part] = sizes.get(part, 0) + child.memory_info().rss
    return sizes
