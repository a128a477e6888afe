"""Heads on one trunk: what is a product, what is learned, what is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from learners.errors import (
    CorruptReleaseError,
    DivergedError,
    InvalidModelConfigError,
    InvalidRoundInputError,
    ReleaseNotFoundError,
)
from learners.multitask import (
    MultiTaskConfig,
    MultiTaskTrainer,
    Predictor,
    TaskWeights,
    Visits,
    load_multitask,
    save_multitask,
)
from learners.multitask.experts import MixtureOfExperts, ProgressiveExtraction
from learners.multitask.model import task_losses
from tests.learners.multitask_data import ACTIVE, HEADS, ITEMS, TEXT, buyer_chance, model, shop

STRUCTURES = ("shared", "mmoe", "ple")


def trained(config: MultiTaskConfig = HEADS, *, visits: int = 1_500, seed: int = 0) -> Predictor:
    heads = model(config, seed=seed)
    MultiTaskTrainer(heads, text_vectors=TEXT, active=ACTIVE, seed=seed).train(shop(visits, seed=seed)[0])
    return Predictor(model=heads, text_vectors=TEXT, active=ACTIVE)


def test_the_chance_of_a_click_and_a_purchase_is_the_product_before_and_after_calibration() -> None:
    visits = shop(50, seed=0)[0]
    heads = model().eval()
    items = heads.trunk.item_vectors(TEXT, torch.arange(ITEMS + 1))
    logits = heads(heads.user_vectors(items, visits), items[visits.shown])
    for task in ("cart", "purchase"):
        product = logits.click.sigmoid() * getattr(logits, task).sigmoid()
        torch.testing.assert_close(logits.log_both(task).exp(), product)

    predictor = Predictor(model=heads, text_vectors=TEXT, active=ACTIVE)
    predictor.calibrate(shop(300, seed=1)[0])
    chances = predictor.chances(visits)
    np.testing.assert_allclose(chances.click_and_purchase, chances.click * chances.purchase)
    assert (chances.click_and_purchase <= chances.click).all()


def test_esmm_learns_conversion_from_impressions_that_were_not_clicked_and_clicks_alone_do_not() -> None:
    visits = shop(40, seed=0)[0]
    unclicked = ~visits.clicked
    for conversion, learns in (("esmm", True), ("clicked", False)):
        config = replace(HEADS, conversion=conversion)
        heads = model(config)
        items = heads.trunk.item_vectors(TEXT, torch.arange(ITEMS + 1))
        logits = heads(heads.user_vectors(items, visits), items[visits.shown])
        (gradient,) = torch.autograd.grad(task_losses(logits, visits, config)["purchase"], logits.purchase)
        assert bool((gradient[unclicked] != 0).any()) is learns
        assert bool((gradient[visits.clicked] != 0).any())


def test_losses_are_those_of_the_papers() -> None:
    visits, *_ = shop(20, seed=0)
    heads = model()
    items = heads.trunk.item_vectors(TEXT, torch.arange(ITEMS + 1))
    logits = heads(heads.user_vectors(items, visits), items[visits.shown])
    both = logits.click.sigmoid() * logits.purchase.sigmoid()
    losses = task_losses(logits, visits, HEADS)
    torch.testing.assert_close(losses["purchase"], F.binary_cross_entropy(both, visits.bought.float()))
    alone = task_losses(logits, visits, replace(HEADS, conversion="clicked"))["purchase"]
    expected = F.binary_cross_entropy(logits.purchase.sigmoid()[visits.clicked], visits.bought[visits.clicked].float())
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_learns_the_planted_chances(structure: str) -> None:
    predictor = trained(replace(HEADS, structure=structure, epochs=8), visits=3_000)
    predictor.calibrate(shop(1_000, seed=1)[0])
    visits, click, purchase = shop(500, seed=2)
    chances = predictor.chances(visits)
    assert np.abs(chances.click - click.numpy()).mean() < 0.05
    assert np.abs(chances.purchase - purchase.numpy()).mean() < 0.08
    liked = visits.histories[:, 0] % 3
    assert np.abs(chances.buyer - buyer_chance(liked).numpy()).mean() < 0.05
    assert (chances.will_buy == (liked == 0).numpy()).mean() > 0.95


def test_what_a_person_looked_at_says_what_interests_them_and_items_of_a_kind_are_alike() -> None:
    predictor = trained(replace(HEADS, weights=TaskWeights(next_item=1.0)))
    visits = shop(200, seed=3)[0]
    kinds = [item % 3 for item in range(ITEMS + 1)]
    interests = predictor.interests(visits, kinds)
    np.testing.assert_allclose(interests.sum(axis=1), 1, atol=1e-5)
    liked = visits.histories[:, 0].numpy() % 3
    assert (interests.argmax(axis=1) == liked).mean() > 0.95
    alike = predictor.similar_items(4, k=3)
    assert {item % 3 for item, _ in alike} == {1}
    assert 1 >= alike[0][1] >= alike[1][1] >= alike[2][1]
    assert len(predictor.similar_items(4, k=100)) == ITEMS - 1


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (trained(visits=200).model.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_was_saved_answers_as_before(structure: str, tmp_path: Path) -> None:
    predictor = trained(replace(HEADS, structure=structure, epochs=1), visits=100)
    predictor.calibrate(shop(100, seed=1)[0])
    path = save_multitask(predictor, tmp_path / "release")
    assert path.name == "multitask.safetensors"
    loaded, visits = load_multitask(tmp_path / "release"), shop(50, seed=2)[0]
    before, after = predictor.chances(visits), loaded.chances(visits)
    for head in ("click", "cart", "purchase", "buyer", "will_buy"):
        np.testing.assert_array_equal(getattr(after, head), getattr(before, head))
    assert loaded.model.config == predictor.model.config


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseNotFoundError):
        load_multitask(tmp_path)
    path = save_multitask(trained(replace(HEADS, epochs=1), visits=64), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptReleaseError, match=r"multitask\.safetensors"):
        load_multitask(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(CorruptReleaseError):
        load_multitask(tmp_path)


def test_an_equal_gate_means_the_mean_of_the_experts_and_ple_keeps_other_tasks_experts_out() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 8)
    mixture = MixtureOfExperts(8, tasks=3, config=HEADS)
    for gate in mixture.gates:
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.zeros_(gate.bias)
    torch.testing.assert_close(mixture(x), mixture.experts(x).mean(dim=-2)[:, None].expand(-1, 3, -1))

    extraction = ProgressiveExtraction(8, tasks=3, config=replace(HEADS, levels=1))
    before = extraction(x)
    with torch.no_grad():
        extraction.levels[0].own[1].layer.weight += 1.0  # task 1's own expert
    changed = (extraction(x) != before).flatten(2).any(dim=2).any(dim=0)
    assert changed.tolist() == [False, True, False]


def test_nobody_clicking_nobody_looking_on_and_one_visit_are_learned_from_without_harm() -> None:
    visits = shop(64, seed=0)[0]
    none = torch.zeros_like(visits.clicked)
    quiet = Visits(
        **{name: getattr(visits, name) for name in ("histories", "lengths", "shown")},
        clicked=none,
        carted=none,
        bought=none,
        buyer=none[:, 0],
        next_item=torch.zeros(64, dtype=torch.int64),
    )
    for conversion in ("esmm", "clicked"):
        heads = model(replace(HEADS, conversion=conversion, epochs=2))
        trainer = MultiTaskTrainer(heads, text_vectors=TEXT, active=ACTIVE, seed=0)
        assert trainer.train(quiet)[-1]["click"] < 0.7
        assert len(trainer.train(visits.take(torch.tensor([0])))) == 2
        assert trainer.train(visits.take(torch.tensor([], dtype=torch.int64))) == []
        predictor = Predictor(model=heads, text_vectors=TEXT, active=ACTIVE)
        predictor.calibrate(quiet)
        assert np.isfinite(predictor.chances(visits).purchase).all()
        assert predictor.chances(visits).click.max() < 0.01


def test_a_diverging_rate_is_said_to_diverge() -> None:
    heads = model(replace(HEADS, learning_rate=1e30, max_grad_norm=1e30))
    with pytest.raises(DivergedError):
        MultiTaskTrainer(heads, text_vectors=TEXT, active=ACTIVE, seed=0).train(shop(200, seed=0)[0])


def test_tasks_of_weight_nought_are_left_out() -> None:
    heads = model(replace(HEADS, epochs=1, weights=TaskWeights(click=0, cart=0, buyer=0, next_item=0)))
    curve = MultiTaskTrainer(heads, text_vectors=TEXT, active=ACTIVE, seed=0).train(shop(64, seed=0)[0])
    assert set(curve[0]) == {"purchase"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("structure", "tree"), ("conversion", "all"), ("experts", 0), ("learning_rate", 0.0), ("dropout", 1.0)],
)
def test_settings_that_cannot_be_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidModelConfigError, match=name):
        MultiTaskConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidModelConfigError, match="click"):
        TaskWeights(click=-1)


def test_labels_that_contradict_each_other_are_refused_by_name() -> None:
    visits = shop(10, seed=0)[0]
    parts = {name: getattr(visits, name) for name in Visits.__slots__}
    with pytest.raises(InvalidRoundInputError, match="bought"):
        Visits(**parts | {"bought": ~visits.clicked})
    with pytest.raises(InvalidRoundInputError, match="lengths"):
        Visits(**parts | {"lengths": visits.lengths[:3]})
    with pytest.raises(InvalidRoundInputError, match="padding"):
        Visits(**parts | {"shown": torch.zeros_like(visits.shown)})
