"""What to replay, and what to do to the system meanwhile."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What to replay, and what to do to the system meanwhile.

    Args:
        events: The log.
        catalog: The catalogue.
        limit: Most events; None: all.
        encoding: Of CSV files; None: UTF-8.
        speed: Events a second; None: as fast as the system follows.
        worker_kills: How often a worker is killed with -9, at random moments.
        learner_kills: How often the learner is.
        workers: Worker processes.
        learner: Whether a learner runs.
        seed: Of every draw.
        sample: Users, and as many items, that are held against the recount.
    """

    events: Path
    catalog: Path
    limit: int | None = None
    encoding: str | None = None
    speed: float | None = None
    worker_kills: int = 0
    learner_kills: int = 0
    workers: int = 1
    learner: bool = True
    seed: int = 0
    sample: int = 200
