"""How the learner's process runs; what it learns is `learners.learner.LearnerConfig`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LearnerProcessConfig:
    """Intervals and patience, in seconds.

    Args:
        checkpoint_interval_s: Between two checkpoints; above 0.
        updates_interval_s: Between two publications of what experts learned.
        round_timeout_s: A round that takes longer is killed.
        heartbeat_timeout_s: So is one that makes no optimizer step for this long.
        lock_wait_s: How long to wait for another learner to end.
        registry_interval_s: Between two looks at releases that others made, such as `alluvium models rollback`.
        keep_versions: Newest releases whose directories stay on disk.
        picture_patience_s: A round waits for pictures that are yet to be looked at no longer than this.
        stall_s: Without progress for so long, though interactions wait, `/healthz` says 503 ...
        exit_s: ... and for so long, the process ends itself.
    """

    checkpoint_interval_s: float = 10.0
    updates_interval_s: float = 0.5
    round_timeout_s: float = 600.0
    heartbeat_timeout_s: float = 120.0
    lock_wait_s: float = 30.0
    registry_interval_s: float = 5.0
    keep_versions: int = 5
    picture_patience_s: float = 300.0
    stall_s: float = 60.0
    exit_s: float = 180.0
