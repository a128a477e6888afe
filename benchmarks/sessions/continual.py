"""One learner over many updates: the network, what it replays, and full retraining as its yardstick."""

import io
from dataclasses import dataclass

import torch

from benchmarks.sessions.data import Periods
from benchmarks.sessions.rows import Rows, rows_of
from benchmarks.sessions.shared_model import Curve, TrainingConfig, clock, from_scratch, restarted, train
from benchmarks.sessions.spectral import Vectors
from learners.model import SharedModel


@dataclass(slots=True)
class ContinualModel:
    """The shared model, from update to update.

    Args:
        config: See `TrainingConfig`.
        seed: Source of everything random.
        device: Where it trains and answers.
        model: The newest network; None before the first update.
        loss: Of its last pass.
    """

    config: TrainingConfig
    seed: int
    device: torch.device
    model: SharedModel | None = None
    loss: float | None = None

    def learn(self, periods: Periods, update: int, vectors: Vectors) -> Curve:
        """Learn the period before `update` and some sessions of all earlier ones.

        Args:
            periods: Read up to period `update - 1`.
            update: From 1 on.
            vectors: Spectral vectors of the items known now, [N+1, D].
        """
        start = clock(self.device)
        rows = rows_of(periods.sessions[update - 1], history_length=self.config.history_length)
        rows = rows.joined(self._replayed(periods, update, count=self.config.replay))
        own_seed = seed_of(self.seed, update)
        self.model = restarted(self.model, vectors, self.config, seed=own_seed).to(self.device)
        prepared = clock(self.device) - start
        curve = train(self.model, rows, self.config, seed=own_seed, loss_before=self.loss)
        self.loss = curve.losses[-1] if curve.losses else self.loss
        return Curve(prepared + curve.seconds, curve.steps, curve.losses)

    def _replayed(self, periods: Periods, update: int, *, count: int) -> Rows:
        """Return an even sample of the sessions of all periods before the newest."""
        past = all_rows(periods, update - 1, self.config)
        generator = torch.Generator().manual_seed(seed_of(self.seed, update))
        return past.take(torch.randperm(len(past), generator=generator)[:count])

    def get_state(self) -> bytes:
        """Return the network as bytes."""
        assert self.model is not None
        buffer = io.BytesIO()
        torch.save({"items": self.model.capacity - 1, "loss": self.loss, "state": self.model.state_dict()}, buffer)
        return buffer.getvalue()

    def set_state(self, state: bytes) -> None:
        """Take a network from bytes."""
        found = torch.load(io.BytesIO(state), weights_only=True, map_location=self.device)
        self.model = from_scratch(self.config, items=found["items"], seed=self.seed).to(self.device)
        self.model.load_state_dict(found["state"])
        self.loss = found["loss"]


def retrain(
    periods: Periods, update: int, config: TrainingConfig, *, seed: int, device: torch.device
) -> tuple[SharedModel, Curve]:
    """Full retraining: the same network from random weights on all periods so far, ended by the same rule."""
    start = clock(device)
    own_seed = seed_of(seed, update)
    model = from_scratch(config, items=periods.known[update - 1], seed=own_seed).to(device)
    rows = all_rows(periods, update, config)
    prepared = clock(device) - start
    curve = train(model, rows, config, seed=own_seed)
    return model, Curve(prepared + curve.seconds, curve.steps, curve.losses)


def all_rows(periods: Periods, count: int, config: TrainingConfig) -> Rows:
    """Return the rows of the first `count` periods."""
    width = config.history_length
    rows = Rows(torch.zeros((0, width + 1), dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    for sessions in periods.sessions[:count]:
        rows = rows.joined(rows_of(sessions, history_length=width))
    return rows


def seed_of(seed: int, update: int) -> int:
    """Return a seed of its own for each update, so that a run that goes on in the middle draws the same.

    >>> seed_of(0, 1) != seed_of(0, 2) != seed_of(1, 1)
    True
    """
    return 1_000 * (seed + 1) + update
