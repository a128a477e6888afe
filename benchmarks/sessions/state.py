"""Whose updates a state folder holds: a run goes on only where it was itself."""

import hashlib
import json
from pathlib import Path

from benchmarks.sessions.data import Periods
from benchmarks.sessions.errors import OtherRunError
from benchmarks.sessions.run import RunConfig
from learners.disk import write_whole


def claim(folder: Path, periods: Periods, config: RunConfig) -> None:
    """Write down what the run in a folder is made of, or check that it is the same.

    Raises:
        OtherRunError: If the folder holds updates of other data or other settings.
    """
    own = {"data": fingerprint(periods), "settings": config.described()}
    path = folder / "run.json"
    if not path.exists():
        write_whole(path, json.dumps(own, indent=1).encode())
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in own.items():
        if found.get(name) != value:
            raise OtherRunError(path=folder, differing=name)


def fingerprint(periods: Periods) -> str:
    """Return a digest of all sessions."""
    digest = hashlib.sha256()
    for sessions in periods.sessions:
        digest.update(sessions.items.tobytes())
        digest.update(sessions.starts.tobytes())
    return digest.hexdigest()
