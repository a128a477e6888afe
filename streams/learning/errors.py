"""What can go wrong in the learner process beyond Kafka, Postgres and learning itself."""

from pathlib import Path

from streams.errors import StreamsError


class LearnerBusyError(StreamsError, RuntimeError):
    """Another learner holds this deployment's lock; two would learn everything twice."""

    def __init__(self, *, waited_s: float) -> None:
        super().__init__(
            f"another learner holds this database's learner lock (waited {waited_s:g} s); "
            "expected one learner per deployment"
        )
        self.waited_s = waited_s


class LockLostError(StreamsError, ConnectionError):
    """The connection that holds the deployment's lock is gone; another learner may have started."""

    def __init__(self, *, cause: str) -> None:
        super().__init__(f"the learner lock is lost ({cause}); leaving, so that no two learners write")


class DatabaseUnavailableError(StreamsError, ConnectionError):
    """Postgres did not answer; try again after `retry_after_s` seconds."""

    def __init__(self, *, cause: str, retry_after_s: float = 2.0) -> None:
        super().__init__(f"Postgres is unavailable ({cause}); retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class UnknownCheckpointError(StreamsError, ValueError):
    """A checkpoint was written by another version of this program."""

    def __init__(self, *, path: Path, found: object, expected: int) -> None:
        super().__init__(f"checkpoint {path} has format {found!r}; expected {expected}")
        self.path = path
