"""When to kill what: moments of a replay drawn at random, the same for the same seed."""

import random
from dataclasses import dataclass

EARLIEST, LATEST = 0.1, 0.9  # shares of the log between which a process may be killed
MOST_DELAY_S = 1.0


@dataclass(frozen=True, kw_only=True, order=True)
class Kill:
    """One kill -9: after so many events were sent, and so many seconds more, so that it hits work in any state."""

    after_events: int
    delay_s: float
    process: str


def plan(*, events: int, workers: int, worker_kills: int, learner_kills: int, seed: int) -> list[Kill]:
    """Draw the moments.

    Args:
        events: Events to be replayed.
        workers: Processes called `worker-1` and so on, of which one is drawn each time.
        worker_kills: How many times a worker dies.
        learner_kills: How many times the learner dies.
        seed: Of the draw.

    Returns:
        The kills in the order they are due.

    >>> due = plan(events=1_000, workers=1, worker_kills=2, learner_kills=1, seed=0)
    >>> sorted(kill.process for kill in due), all(100 <= kill.after_events <= 900 for kill in due)
    (['learner', 'worker-1', 'worker-1'], True)
    """
    draw = random.Random(seed)
    victims = [f"worker-{draw.randint(1, workers)}" for _ in range(worker_kills)] + ["learner"] * learner_kills
    return sorted(
        Kill(
            after_events=int(events * draw.uniform(EARLIEST, LATEST)),
            delay_s=draw.uniform(0.0, MOST_DELAY_S),
            process=victim,
        )
        for victim in victims
    )
