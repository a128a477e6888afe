"""The shared model with pictures and attributes; and without, where nothing may differ from before."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.errors import InvalidModelConfigError
from learners.model import ModelConfig, SharedModel
from learners.releases import load_release, save_candidate

TEXT_ONLY = ModelConfig(width=8, layers=1, heads=1, text_width=6, spare_rows=0, hash_buckets=2, dropout=0.0)
WITH_ALL = dataclasses.replace(TEXT_ONLY, image_width=5, attribute_width=3)


def made(config: ModelConfig) -> SharedModel:
    torch.manual_seed(0)
    return SharedModel(config, capacity=4).eval()


def test_a_model_without_pictures_has_the_weights_and_the_vectors_that_it_always_had() -> None:
    model = made(TEXT_ONLY)
    assert not [name for name in model.state_dict() if name.startswith(("others", "gate"))]
    text = torch.randn(3, 6)
    torch.testing.assert_close(model.described(text), text @ model.text_projection.weight.T, rtol=0, atol=0)
    shared = set(model.state_dict())
    other = made(WITH_ALL).state_dict()
    for name in shared:  # what came before draws the same random numbers whatever follows
        torch.testing.assert_close(model.state_dict()[name], other[name], rtol=0, atol=0)


def test_an_item_with_text_only_is_its_text_in_a_model_with_pictures_too() -> None:
    model = made(WITH_ALL)
    rows = torch.zeros(2, WITH_ALL.described_width)
    rows[0, :6] = torch.randn(6)
    found = model.described(rows)
    torch.testing.assert_close(found[0], rows[0, :6] @ model.text_projection.weight.T)
    assert not found[1].any()
    rows[0, 6:11] = torch.randn(5)
    assert not torch.allclose(model.described(rows)[0], found[0])


def test_pictures_alone_tell_items_apart_and_are_learned_from() -> None:
    model = made(WITH_ALL)
    rows = torch.zeros(2, WITH_ALL.described_width)
    rows[:, 6:11] = torch.randn(2, 5)
    vectors = model.item_vectors(rows, torch.tensor([1, 2]))
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)
    vectors.square().sum().backward()
    assert model.others["image"].weight.grad.abs().sum() > 0
    assert model.text_projection.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("config", [TEXT_ONLY, WITH_ALL])
def test_a_release_keeps_what_the_model_knows_of_pictures(config: ModelConfig, tmp_path: Path) -> None:
    model = made(config)
    rows = torch.randn(4, config.described_width)
    matrix = model.item_vectors(rows, torch.arange(4)).detach()
    save_candidate(tmp_path / "r", model=model, item_matrix=matrix, item_ids=["", "a", "b", "c"], parent=None, facts={})
    release = load_release(tmp_path / "r")
    np.testing.assert_allclose(
        release.encode_new_items(rows.numpy()), model.described(rows).detach().numpy(), atol=1e-6
    )
    assert release.model.config == config


def test_a_width_below_zero_is_refused() -> None:
    with pytest.raises(InvalidModelConfigError, match="image_width is -1"):
        dataclasses.replace(TEXT_ONLY, image_width=-1)
