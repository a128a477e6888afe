"""The peers' own virtual environment: made once, used by child processes, told apart from ours."""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import Outcome
from benchmarks.prequential_parts.records import load_outcome

REQUIREMENTS = (
    "implicit==0.7.3",
    "recbole==1.2.1",
    "numpy<2",  # the ray that recbole pins names numpy.bool8
    "setuptools<81",  # and imports pkg_resources
    "pandas<3",
    "scipy",
)
ROOT = Path(__file__).resolve().parents[2]
_TAIL = 1_500  # characters of a peer's last words


class PeerUnavailableError(RuntimeError):
    """A peer could not be installed or did not end well."""

    def __init__(self, *, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")


class Peers:
    """Run peers that need versions of their own.

    Args:
        folder: A virtual environment; made, with `REQUIREMENTS` in it, if it is not there.
            None: under the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        self.folder = folder or cache / "alluvium" / "prequential-peers"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self) -> None:
        """Make the environment if it is not there.

        Raises:
            PeerUnavailableError: If the packages cannot be had.
        """
        if self.python.exists():
            return
        venv.create(self.folder, with_pip=True)
        done = subprocess.run(
            [str(self.python), "-m", "pip", "install", "-q", *REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PeerUnavailableError(name="pip install", cause=done.stderr[-_TAIL:])

    def run(self, module: str, log: Log, settings: dict[str, Any]) -> Outcome:
        """Run a peer's child over a log.

        Args:
            module: In this package; ends in `_child`.
            log: Handed over as a file.
            settings: JSON-able.

        Raises:
            PeerUnavailableError: If it ends badly; its last words are in the message.
        """
        self.install()
        with tempfile.TemporaryDirectory(prefix="alluvium-peer-") as scratch:
            log_file, outcome_file = Path(scratch) / "log.npz", Path(scratch) / "outcome.npz"
            log.save(log_file)
            done = subprocess.run(
                [
                    str(self.python),
                    "-m",
                    f"benchmarks.prequential_parts.{module}",
                    str(log_file),
                    str(outcome_file),
                    json.dumps(settings),
                ],
                cwd=scratch,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdout=sys.stderr,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                raise PeerUnavailableError(name=module, cause=f"ended with {done.returncode}: {done.stderr[-_TAIL:]}")
            return load_outcome(outcome_file)
