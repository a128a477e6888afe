"""The shared model: causal, blind to padding, and able to grow without changing what it says."""

import pytest
import torch

from learners.errors import InvalidModelConfigError
from learners.model import ModelConfig, SharedModel, capacity_for

CONFIG = ModelConfig(width=16, layers=2, heads=2, history_length=6, text_width=5, spare_rows=0, hash_buckets=3)


@pytest.fixture
def model() -> SharedModel:
    torch.manual_seed(0)
    model = SharedModel(CONFIG, capacity=10).eval()
    model.admit(0, torch.zeros(10, 5))
    torch.nn.init.normal_(model.newcomer)
    return model


def test_a_user_vector_knows_nothing_of_the_future(model: SharedModel) -> None:
    history, lengths = torch.randn(1, 6, 16), torch.tensor([6])
    changed = history.clone()
    changed[0, 4:] = torch.randn(2, 16)
    torch.testing.assert_close(model(history, lengths)[0, :4], model(changed, lengths)[0, :4])
    assert not torch.allclose(model(history, lengths)[0, 4], model(changed, lengths)[0, 4])


def test_padding_changes_nothing(model: SharedModel) -> None:
    history = torch.randn(1, 3, 16)
    alone = model.newest(history, torch.tensor([3]))
    padded = torch.cat([history, torch.full((1, 3, 16), 9.0)], dim=1)
    torch.testing.assert_close(model.newest(padded, torch.tensor([3])), alone)
    torch.testing.assert_close(model(padded, torch.tensor([3]))[:, 2], alone)


def test_the_shortcut_for_the_newest_vector_agrees_with_the_whole_pass(model: SharedModel) -> None:
    history, lengths = torch.randn(5, 6, 16), torch.tensor([1, 2, 4, 5, 6])
    whole = model(history, lengths)[torch.arange(5), lengths - 1]
    torch.testing.assert_close(model.newest(history, lengths), whole)


def test_positions_count_from_the_newest_interaction(model: SharedModel) -> None:
    with torch.no_grad():
        model.positions.weight[0] += 100  # only the newest interaction may feel this
    seen = model._input(torch.zeros(2, 3, 16), torch.tensor([2, 3]))
    assert (seen.abs().amax(dim=-1) > 50).tolist() == [[False, True, True], [False, False, True]]  # [0, 2] is padding


def test_an_empty_history_is_a_newcomer(model: SharedModel) -> None:
    users = model.newest(torch.randn(2, 1, 16), torch.tensor([0, 1]))
    torch.testing.assert_close(users[0], model.newcomer)
    assert not torch.allclose(users[1], model.newcomer)


def test_items_beyond_the_capacity_share_rows(model: SharedModel) -> None:
    assert model.rows_of(torch.tensor([0, 9, 10, 11, 12, 13])).tolist() == [0, 9, 11, 12, 10, 11]


def test_padding_has_no_row_of_its_own_and_admitted_items_can_be_told_apart(model: SharedModel) -> None:
    vectors = model.item_vectors(torch.zeros(10, 5), torch.arange(10))
    assert not vectors[0].any()
    assert len(torch.unique(vectors[1:], dim=0)) == 9


def test_growing_keeps_every_item_vector(model: SharedModel) -> None:
    with torch.no_grad():
        model.id_embedding.weight.normal_()
    text, items = torch.randn(10, 5), torch.arange(10)
    grown = model.grown(16)
    torch.testing.assert_close(grown.item_vectors(text, items), model.item_vectors(text, items))
    torch.testing.assert_close(grown.id_embedding.weight[16:], model.id_embedding.weight[10:])
    assert not grown.id_embedding.weight[10:16].any()


@pytest.mark.parametrize(
    ("setting", "value"), [("width", 0), ("width", 15), ("dropout", 1.0), ("input_dropout", -0.1), ("hash_buckets", 0)]
)
def test_an_impossible_shape_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(InvalidModelConfigError, match=f"{setting} is {value}"):
        ModelConfig(**{"heads": 2, setting: value})  # type: ignore[arg-type]


def test_capacity_leaves_room_to_grow() -> None:
    assert capacity_for(ModelConfig(spare_rows=1_024), 3_685) >= 3_685 + 1_024
