"""The shared model with pictures and attributes; and without, where nothing may differ from before."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.errors import InvalidModelConfigError
from learners.histories import EMPTY_PAST
from learners.items.catalog import Catalog
from learners.model import ModelConfig, SharedModel
from learners.ranking.ranker import Ranker
from learners.releases.release import LoadedRelease, load_release, save_candidate
from learners.rounds.warm_start import warm_start

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


def test_pictures_are_told_on_a_scale_that_the_first_round_found_and_the_release_keeps(tmp_path: Path) -> None:
    model, rng = made(WITH_ALL), np.random.default_rng(0)
    rows = torch.zeros(40, WITH_ALL.described_width)
    rows[1:, 6:11] = torch.from_numpy(rng.normal(loc=-90, scale=[1, 2, 3, 4, 5], size=(39, 5)).astype(np.float32))
    model.look_at(rows)
    told = model.comparable(rows)
    assert not told[0].any()
    torch.testing.assert_close(told[1:].norm(dim=1), torch.ones(39))
    assert float((told[1:] @ told[1:].T).mean()) < 0.5  # before that, all of them looked alike
    found = model.state_dict()["scale.middle"].clone()
    model.look_at(rows[:10] * 2)  # fewer than before: nothing new
    torch.testing.assert_close(model.state_dict()["scale.middle"], found)
    save_candidate(
        tmp_path / "r", model=model.grown(64), item_matrix=torch.zeros(1, 8), item_ids=[""], parent=None, facts={}
    )
    release = load_release(tmp_path / "r")
    np.testing.assert_allclose(
        release.encode_new_items(rows.numpy()), model.described(rows).detach().numpy(), atol=1e-6
    )


def test_a_release_without_pictures_scores_rows_with_them_by_their_text_and_the_other_way_round() -> None:
    rows = np.random.default_rng(0).normal(size=(3, WITH_ALL.described_width)).astype(np.float32)
    ids = ["x", "y", "z"]
    for config, layout, same in (
        (TEXT_ONLY, WITH_ALL.layout, rows[:, :6]),
        (WITH_ALL, TEXT_ONLY.layout, np.hstack([rows[:, :6], np.zeros((3, 8), np.float32)])),
    ):
        model = made(config)
        release = LoadedRelease(version=1, item_ids=[""], model=model, item_matrix=torch.zeros(1, 8), manifest={})
        found = release.extended(ids, rows[:, : sum(layout)], layout=layout)
        np.testing.assert_array_equal(found.item_matrix[1:], release.encode_new_items(same))


def test_a_worker_scores_a_new_item_by_what_the_release_knows_of_and_anew_when_it_is_described_again() -> None:
    text, picture = np.ones(6, np.float32), np.full(5, 2.0, np.float32)
    for config in (TEXT_ONLY, WITH_ALL):
        model = made(config)
        torch.nn.init.ones_(model.newcomer)
        release = LoadedRelease(version=1, item_ids=["", "old"], model=model, item_matrix=torch.ones(2, 8), manifest={})
        ranker = Ranker(catalog=Catalog())
        ranker.catalog.upsert("old")
        ranker.describe("new", text)
        ranker.adopt(release)
        assert ranker.shared is not None
        by_text = ranker.shared.logits([EMPTY_PAST])[0, 2]
        ranker.describe("new", text, picture, np.zeros(3, np.float32))
        ranker.describe("old", text, picture)  # the release knows it better
        ranker.describe("other encoder", np.ones(9, np.float32))
        ranker.shared.refresh()
        again = ranker.shared.logits([EMPTY_PAST])[0]
        expected = release.encode_new_items(config.layout.row((text, picture))[None])[0]
        np.testing.assert_allclose(again[2], expected @ release.encode_users([[]])[0], rtol=1e-5)
        assert (again[2] != by_text) == (config == WITH_ALL)
        assert again[1] == pytest.approx(float(release.encode_users([[]])[0].sum()))
        assert again[3] == 0.0  # nothing that this release could read


def test_a_new_item_without_a_text_starts_from_its_kin_by_picture() -> None:
    torch.manual_seed(0)
    model = SharedModel(dataclasses.replace(WITH_ALL, spare_rows=0), capacity=42)
    torch.nn.init.normal_(model.id_embedding.weight)
    rows = torch.zeros(42, WITH_ALL.described_width)
    rows[1:41, 6:11] = torch.randn(40, 5) - 50
    rows[41] = rows[5]
    model.look_at(rows)
    learned = torch.tensor([0] + [9] * 40 + [0])
    before = model.id_embedding.weight[41].clone()
    assert warm_start(model, learned=learned, text_vectors=model.comparable(rows)) == 1
    table = torch.nn.functional.normalize(model.id_embedding.weight.detach(), dim=1)
    assert int((table[1:41] @ table[41]).argmax()) + 1 == 5
    assert not torch.equal(model.id_embedding.weight[41], before)


def test_a_width_below_zero_is_refused() -> None:
    with pytest.raises(InvalidModelConfigError, match="image_width is -1"):
        dataclasses.replace(TEXT_ONLY, image_width=-1)
