"""One learner per deployment, by an advisory lock of the deployment's Postgres database."""

import time
from collections.abc import Callable

import psycopg

from streams.learning.errors import DatabaseUnavailableError, LearnerBusyError, LockLostError

_KEY = 0x616C6C7576_6C72  # "alluv" "lr"; locks are per database


class DeploymentLock:
    """Hold the lock as long as one connection lives; Postgres lets go of it the moment the process is gone.

    All calls block: make them from one dedicated thread.

    Args:
        postgres_url: The deployment's database.
    """

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        self._connection: psycopg.Connection[tuple[bool]] | None = None

    def acquire(self, *, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the lock, waiting up to `wait_s` for its holder to end.

        Raises:
            LearnerBusyError: If it is still held then.
            DatabaseUnavailableError: If Postgres does not answer.
        """
        try:
            connection = psycopg.connect(
                self._postgres_url,
                autocommit=True,
                connect_timeout=10,
                application_name="alluvium-learner-lock",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(cause=str(error).strip()) from error
        give_up_at = time.monotonic() + wait_s
        while not (granted := _granted(connection)) and time.monotonic() < give_up_at:
            sleep(0.2)
        if not granted:
            connection.close()
            raise LearnerBusyError(waited_s=wait_s)
        self._connection = connection

    def check(self) -> None:
        """Make sure that the lock is still ours.

        Raises:
            LockLostError: If its connection is gone.
        """
        if self._connection is None:
            raise LockLostError(cause="it was never taken")
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise LockLostError(cause=str(error).strip()) from error

    def release(self) -> None:
        """Let go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _granted(connection: psycopg.Connection[tuple[bool]]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_KEY,)).fetchone()
    return bool(row and row[0])
