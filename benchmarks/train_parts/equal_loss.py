"""Equal loss: how long a loop takes to the held-out loss that the plain one has after its steps."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.static import Sequences, held_out_rows, training_rows
from benchmarks.train_parts.loops import EVEN, MIXED, OURS, PLAIN, SAMPLED, Size, loops, trainer
from learners.training import Trainer
from learners.training_rows import Rows


@dataclass(slots=True)
class Stopwatch:
    """CPU seconds of training alone: what looking at the loss in between costs is not counted.

    Args:
        held_out: What the loss is looked at on.
        every: Steps between two looks.
    """

    held_out: Rows
    every: int
    curve: list[dict[str, float]] = field(default_factory=list)
    _used: float = 0.0
    _since: float = field(default_factory=time.process_time)

    def __call__(self, trainer: Trainer, step: int) -> None:
        """Note step, CPU seconds and loss, if it is time to."""
        if step % self.every:
            return
        self._used += time.process_time() - self._since
        self.curve.append({"step": step, "cpu_s": self._used, "loss": trainer.evaluate(self.held_out)})
        self._since = time.process_time()


def equal_loss(data: Sequences, size: Size) -> dict[str, Any]:
    """Run the plain loop for `longer` steps, and ours for up to `reach`, looking at the held-out loss on the way."""
    cut = [person[:-2] for person in data.people]
    held_out = held_out_rows([person[:-1] for person in data.people[-size.held_out :]])
    order = np.random.default_rng(0).permutation(len(cut) - size.held_out)
    every = loops(data, size, seed=0)

    def curve(name: str, steps: int, looks: int) -> list[dict[str, float]]:
        rows = training_rows([cut[row] for row in order[: steps * size.batch_rows]])
        watch = Stopwatch(held_out, looks)
        every[name](rows, watch)
        return watch.curve

    goal = curve(PLAIN, size.longer, size.longer)[-1]
    curves = {name: curve(name, size.reach, size.every) for name in (MIXED, OURS, EVEN, SAMPLED)}
    return {
        "untrained": trainer(data, size, seed=0).evaluate(held_out),
        "plain": goal,
        "ours": {name: reached(found, goal) for name, found in curves.items()},
        "curves": curves,
    }


def reached(curve: list[dict[str, float]], goal: dict[str, float]) -> dict[str, float | None]:
    """Return a loop's loss at as many steps, and from when on it stayed at or below the goal's loss; None if never.

    A curve goes up and down: the first dip below the goal would flatter.

    >>> losses = [2.4, 3.0, 2.3, 2.0]
    >>> curve = [{"step": 2 * n, "cpu_s": float(n), "loss": loss} for n, loss in enumerate(losses, start=1)]
    >>> reached(curve, {"step": 8, "cpu_s": 12.0, "loss": 2.5})
    {'loss_at_equal_steps': 2.0, 'steps': 6, 'cpu_s': 3.0, 'times_faster': 4.0}
    >>> reached(curve, {"step": 8, "cpu_s": 12.0, "loss": 1.5})["times_faster"] is None
    True
    """
    at = next(look["loss"] for look in curve if look["step"] == goal["step"])
    above = [number for number, look in enumerate(curve) if look["loss"] > goal["loss"]]
    below = curve[above[-1] + 1 :] if above else curve
    first = below[0] if below else None
    return {
        "loss_at_equal_steps": at,
        "steps": first["step"] if first else None,
        "cpu_s": first["cpu_s"] if first else None,
        "times_faster": goal["cpu_s"] / first["cpu_s"] if first else None,
    }
