"""A round's rows reach the model right-padded, with validation targets set aside."""

import numpy as np
import pytest
import torch

from learners.errors import InvalidModelConfigError, InvalidRoundInputError
from learners.model import ModelConfig
from learners.rounds.material import Batching, RoundConfig, RoundInput
from learners.rounds.rows import prepare

SHAPE = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=3, spare_rows=0)
NOBODY = np.zeros((0, 4), np.int32)
NOTHING = np.zeros(0, np.int32)


def round_input(tokens: list[list[int]], mask: list[list[int]], /, **changes: object) -> RoundInput:
    rows = len(tokens)
    values: dict[str, object] = {
        "tokens": np.array(tokens, np.int32).reshape(rows, 5),
        "loss_mask": np.array(mask, np.bool_).reshape(rows, 4),
        "weight": np.ones(rows, np.float32),
        "replayed": np.zeros(rows, np.bool_),
        "newest_histories": NOBODY,
        "newest_targets": NOTHING,
        "frozen_histories": NOBODY,
        "frozen_targets": NOTHING,
        "item_ids": ["", "a", "b", "c", "d", "e"],
        "text_vectors": np.zeros((6, 3), np.float32),
        "active": np.arange(6) > 0,
        "model": SHAPE,
        "training": RoundConfig(validation_share=0.0),
    }
    return RoundInput(**(values | changes))  # type: ignore[arg-type]


def test_left_padding_becomes_right_padding_and_targets_move_along() -> None:
    rows, validation = prepare(
        round_input([[0, 0, 1, 2, 3], [1, 2, 3, 4, 5]], [[0, 0, 1, 1], [0, 0, 0, 1]]), np.random.default_rng(0)
    )
    assert rows.tokens.tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert rows.targets.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]
    assert rows.lengths.tolist() == [3, 5]
    assert len(validation) == 0


def test_a_first_interaction_may_be_a_target() -> None:
    rows, _ = prepare(round_input([[0, 0, 0, 0, 3]], [[0, 0, 0, 1]]), np.random.default_rng(0))
    assert rows.tokens[rows.targets].tolist() == [3]
    assert rows.take(torch.tensor([0])).tokens.tolist() == [[3, 0]]


def test_rows_without_targets_are_left_out() -> None:
    rows, validation = prepare(round_input([[0, 0, 1, 2, 3]], [[0, 0, 0, 0]]), np.random.default_rng(0))
    assert (len(rows), len(validation)) == (0, 0)


def test_validation_takes_newest_targets_of_new_rows_only_and_training_never_sees_them() -> None:
    tokens = [[0, 1, 2, 3, 4]] * 10
    mask = [[0, 1, 1, 1]] * 10
    replayed = np.arange(10) < 5
    rows, validation = prepare(
        round_input(tokens, mask, replayed=replayed, training=RoundConfig(validation_share=0.4)),
        np.random.default_rng(0),
    )
    assert len(validation) == 2
    assert not validation.replayed.any()
    assert validation.tokens[validation.targets].tolist() == [4, 4]
    assert validation.targets.sum() == 2
    assert int(rows.targets.sum()) == 10 * 3 - 2


def test_batches_by_targets_have_equally_many_targets_and_cover_every_row_once() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, 400)
    tokens = [[0] * (4 - count) + [1] * (1 + count) for count in counts]
    mask = [[0] * (4 - count) + [1] * count for count in counts]
    rows, _ = prepare(round_input(tokens, mask), rng)

    def targets(by: Batching) -> tuple[list[int], list[int]]:
        batches = list(rows.batches(16, torch.Generator().manual_seed(0), by=by))
        return sorted(torch.cat(batches).tolist()), [int(rows.targets[batch].sum()) for batch in batches]

    covered, even = targets("targets")
    uneven = targets("rows")[1]
    assert covered == list(range(400))
    assert len(even) == len(uneven) == 25
    assert max(even) - min(even) <= 2 * 4  # a batch is a row too long or too short at most, at each end
    assert max(uneven) >= 3 * min(uneven)


def test_a_row_of_many_targets_leaves_no_empty_batch() -> None:
    rows, _ = prepare(
        round_input([[1, 2, 3, 4, 5], [0, 0, 0, 1, 2], [0, 0, 0, 1, 2]], [[1] * 4, [0, 0, 0, 1], [0, 0, 0, 1]]),
        np.random.default_rng(0),
    )
    batches = list(rows.batches(1, torch.Generator().manual_seed(0), by="targets"))
    assert sorted(torch.cat(batches).tolist()) == [0, 1, 2]
    assert all(len(batch) for batch in batches)


def test_batches_cover_every_row_once_and_in_an_order_of_the_seed() -> None:
    tokens = [[0] * (4 - n % 4) + [1] * (1 + n % 4) for n in range(50)]
    rows, _ = prepare(round_input(tokens, [[0, 0, 0, 1]] * 50), np.random.default_rng(0))

    def batches(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in rows.batches(8, torch.Generator().manual_seed(seed))]

    assert sorted(row for batch in batches(0) for row in batch) == list(range(50))
    assert batches(0) == batches(0) != batches(1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"weight": np.ones(3, np.float32)}, r"weight is of shape \(3,\); expected \(1,\)"),
        ({"active": np.ones(5, np.bool_)}, "active"),
        ({"tokens": np.array([[0, 0, 1, 2, 6]], np.int32)}, "tokens is up to 6; expected indexes below 6"),
        ({"loss_mask": np.array([[True, False, False, True]])}, "loss_mask is set on padding"),
        ({"weight": np.array([np.nan], np.float32)}, "weight is not finite"),
        (
            {"newest_histories": np.zeros((1, 4), np.int32), "newest_targets": np.zeros(1, np.int32)},
            "newest_targets is 0; expected items",
        ),
    ],
)
def test_arrays_that_contradict_each_other_are_refused_by_name(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidRoundInputError, match=complaint):
        round_input([[0, 0, 1, 2, 3]], [[0, 0, 1, 1]], **changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("first_batch_rows", 0),
        ("learning_rate", 0.0),
        ("validation_share", 0.9),
        ("schedule", "linear"),
        ("distillation", -1.0),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidModelConfigError, match=name):
        RoundConfig(**{name: value})  # type: ignore[arg-type]
