"""What every strategy is made of: the places in a round where one continual-learning paper differs from another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from learners.replay.buffers import ReplayBuffer
from learners.replay.reservoirs import StratifiedReservoir

if TYPE_CHECKING:
    from learners.releases.release import LoadedRelease
    from learners.rounds.material import RoundInput
    from learners.rounds.rows import Rows
    from learners.rounds.training import Scored, Trainer

Indexes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Material:
    """The rows of a round.

    Args:
        tokens: Item indexes, left-padded with 0, oldest first, int32 [M, L+1].
        mask: Which of `tokens[:, 1:]` are to be learned, bool [M, L].
        replayed: How many rows, at the end, come from the buffer.
        extras: What the buffer keeps with its rows, by name; M rows each.
    """

    tokens: Indexes
    mask: Mask
    replayed: int = 0
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Fine-tune a copy of the incumbent on what is new, and on nothing else; the others change one thing or two.

    The first two verbs belong to the learner, the others to the round, which runs in a process of its own: a strategy
    gets there by its name and its settings, and what it keeps from round to round lies in the release it made.
    Strategies are frozen; what changes while a round trains is in the trainer's `held`.
    """

    trains: ClassVar[bool] = True  # whether there are rounds at all
    from_scratch: ClassVar[bool] = False  # whether a round starts from random weights though there is an incumbent
    replays: ClassVar[bool] = False  # whether rows of the buffer join the new ones

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return what keeps interactions to learn from again; arguments as in `StratifiedReservoir`."""
        return StratifiedReservoir(capacity=capacity, length=length, rng=rng)

    def material(
        self, tokens: Indexes, mask: Mask, buffer: ReplayBuffer, *, rows: int, before: float = float("inf")
    ) -> Material:
        """Return a round's rows.

        Args:
            tokens: What is new, int32 [n, L+1].
            mask: What of it is to be learned, bool [n, L].
            buffer: As `buffer` made it.
            rows: How many rows to replay; 0 where there is no incumbent yet.
            before: Number in the stream of the first interaction held out for the gate.
        """
        drawn = buffer.draw(rows if self.replays else 0, before=before)
        again = drawn.pop("tokens")
        return Material(
            np.concatenate([tokens, again]),
            np.concatenate([mask, again[:, 1:] > 0]),
            len(again),
            {name: _after_nothing(values, len(tokens)) for name, values in drawn.items()},
        )

    def choose(self, round_input: "RoundInput", incumbent: "LoadedRelease | None") -> "RoundInput":
        """Return what to learn of what was handed over."""
        del incumbent
        return round_input

    def begin(self, trainer: "Trainer", rows: "Rows") -> None:
        """Get ready: the model is there, the optimizer is not; what needs no gradient is not trained."""

    def texts(self, vectors: Tensor) -> Tensor:
        """Return the text vectors that a step sees, [n, T]."""
        return vectors

    def weights(self, trainer: "Trainer", rows: "Rows") -> Tensor:
        """Return how much each row's own targets count, [M]."""
        del trainer
        return rows.weight

    def penalty(self, trainer: "Trainer", scored: "Scored") -> Tensor | None:
        """Return what is added to the loss of a batch, or None."""

    def backward(self, trainer: "Trainer", rows: "Rows", loss: Tensor) -> None:
        """Leave the gradient of a batch in the parameters."""
        del trainer, rows
        loss.backward()

    def step(self, trainer: "Trainer", rows: "Rows") -> Tensor:
        """Learn one batch; return its loss, detached."""
        return trainer.step(rows)

    def finish(self, trainer: "Trainer", rows: "Rows") -> dict[str, Tensor]:
        """Leave the model as it shall serve, and return what the next round needs to know of this one."""
        del trainer, rows
        return {}


def _after_nothing(values: npt.NDArray[Any], new: int) -> npt.NDArray[Any]:
    """Return stored values with zeros before them for the new rows, which have none."""
    return np.concatenate([np.zeros((new, *values.shape[1:]), values.dtype), values])
