"""A world with a known answer: the item after i is i + 1, round and round."""

import numpy as np
import numpy.typing as npt

from learners.model import ModelConfig
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundConfig, RoundInput

SHAPE = ModelConfig(
    width=32, layers=1, heads=2, history_length=10, text_width=8, spare_rows=8, dropout=0.0, input_dropout=0.1
)
TRAINING = RoundConfig(epochs=6, first_epochs=12, first_learning_rate=1e-2, learning_rate=3e-3, patience=5)


def walks(count: int, *, items: int, seed: int, step: int = 1, shortest: int = 2) -> npt.NDArray[np.int32]:
    """Left-padded walks of 2 to 11 items, [count, 11]."""
    rng, width = np.random.default_rng(seed), SHAPE.history_length + 1
    tokens = np.zeros((count, width), np.int32)
    for row in tokens:
        length = rng.integers(shortest, width + 1)
        row[width - length :] = (rng.integers(items) + step * np.arange(length)) % items + 1
    return tokens


def ring(*, items: int = 40, rows: int = 200, seed: int = 0, step: int = 1, **changes: object) -> RoundInput:
    """Return a round whose people walk along the ring of items, with held-out walks for the gate."""
    tokens = walks(rows, items=items, seed=seed, step=step)
    newest, frozen = (
        walks(120, items=items, seed=1_000 + seed, step=step),
        walks(80, items=items, seed=2_000, step=step),
    )
    values: dict[str, object] = {
        "tokens": tokens,
        "loss_mask": (tokens[:, :-1] > 0) & (tokens[:, 1:] > 0),
        "weight": np.ones(rows, np.float32),
        "replayed": np.zeros(rows, np.bool_),
        "newest_histories": newest[:, :-1],
        "newest_targets": newest[:, -1],
        "frozen_histories": frozen[:, :-1],
        "frozen_targets": frozen[:, -1],
        "item_ids": ["", *(f"item-{number}" for number in range(1, items + 1))],
        "text_vectors": np.random.default_rng(9).normal(size=(items + 1, 8)).astype(np.float32) / 8**0.5,
        "active": np.arange(items + 1) > 0,
        "model": SHAPE,
        "training": TRAINING,
        "gate": GateConfig(),
        "seed": seed,
        "facts": {"interactions": rows},
    }
    return RoundInput(**(values | changes))  # type: ignore[arg-type]
