"""Fusion: averages with known answers, soups no worse than the best model, weights that follow a shop that changes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from learners.knowledge.composition import LowRankPair, composed, concatenated
from learners.knowledge.distillation import AdaptiveWeights, distillation_loss, mixed_targets
from learners.knowledge.errors import FusionError
from learners.knowledge.fusion import fisher_weighted, fuse_agreeing, fuse_rows, greedy_soup, weighted_average
from learners.knowledge.methods import METHODS, Sharing, ndcg_at, share
from learners.knowledge.sharing import Member, measured_fisher
from learners.model import ModelConfig, SharedModel
from learners.releases.release import load_release
from learners.rounds.round import run_round
from tests.learners.rounds_data import ring

CONFIG = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=6, spare_rows=0, hash_buckets=1)


def linear_task(seed: int, rows: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [rows, 3], targets and the true weights of a linear model with noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    true = torch.tensor([1.0, -2.0, 0.5])
    return x, x @ true + 0.5 * torch.randn(rows, generator=generator), true


def test_the_average_of_real_models_is_the_average_of_their_parameters_and_loads() -> None:
    torch.manual_seed(0)
    models = [SharedModel(CONFIG, capacity=4) for _ in range(3)]
    states = [model.state_dict() for model in models]

    fused = weighted_average(states, [1, 2, 1])

    assert fused.keys() == states[0].keys()
    for name, value in fused.items():
        expected = 0.25 * states[0][name] + 0.5 * states[1][name] + 0.25 * states[2][name]
        assert torch.allclose(value, expected, atol=1e-6), name
    models[0].load_state_dict(fused)


def test_half_precision_is_averaged_without_loss_and_counters_must_agree() -> None:
    half = [{"w": torch.full((2,), value, dtype=torch.bfloat16), "steps": torch.tensor(3)} for value in (1.0, 2.0)]
    fused = weighted_average(half)

    assert fused["w"].dtype == torch.bfloat16
    assert fused["w"].tolist() == [1.5, 1.5]
    assert fused["steps"].item() == 3
    half[1]["steps"] = torch.tensor(4)
    with pytest.raises(FusionError, match="whole numbers cannot be averaged: steps"):
        weighted_average(half)


@pytest.mark.parametrize(
    ("states", "weights", "message"),
    [
        ([], None, "there are none"),
        ([{"a": torch.ones(1)}, {"b": torch.ones(1)}], None, "differ in names or shapes: a, b"),
        ([{"a": torch.ones(1)}, {"a": torch.ones(2)}], None, "differ in names or shapes: a"),
        ([{"a": torch.ones(1)}] * 2, [1.0], "expected 2 of at least 0"),
        ([{"a": torch.ones(1)}] * 2, [-1.0, 2.0], "expected 2 of at least 0"),
        ([{"a": torch.ones(1)}] * 2, [0.0, 0.0], "not all 0"),
        ([{"a": torch.ones(1)}] * 2, [float("nan"), 1.0], "expected 2 of at least 0"),
    ],
)
def test_what_cannot_be_averaged_is_named(states: list, weights: list | None, message: str) -> None:
    with pytest.raises(FusionError, match=message):
        weighted_average(states, weights)


def test_a_greedy_soup_leaves_the_spoiled_model_out_and_is_no_worse_than_the_best() -> None:
    target = torch.tensor([1.0, 1.0])
    good = [{"w": torch.tensor([0.5, 1.5])}, {"w": torch.tensor([1.6, 0.6])}]
    spoiled = {"w": torch.tensor([-9.0, 9.0])}

    def score(state: dict) -> float:
        return -float((state["w"] - target).norm())

    soup = greedy_soup([spoiled, *good], score)

    assert soup.chosen == (1, 2)
    assert torch.allclose(soup.state["w"], torch.tensor([1.05, 1.05]))
    assert soup.score > max(soup.scores)
    assert soup.score == pytest.approx(score(soup.state))
    assert greedy_soup([spoiled], score).chosen == (0,)


def test_a_greedy_soup_over_many_random_models_never_falls_below_the_best_single_one() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        target = torch.from_numpy(rng.normal(size=5))
        states = [{"w": torch.from_numpy(rng.normal(size=5))} for _ in range(6)]
        soup = greedy_soup(states, lambda state, target=target: -float((state["w"] - target).norm()))
        assert soup.score >= max(soup.scores)
        assert len(set(soup.chosen)) == len(soup.chosen)


def test_fisher_weights_recover_the_fit_on_all_data_from_fits_on_its_parts() -> None:
    """For linear regression with independent inputs this is exact up to the inputs' correlation in a sample."""
    x, y, true = linear_task(0, 4_000)
    parts = [(x[:100], y[:100]), (x[100:], y[100:])]
    fits = [torch.linalg.lstsq(one, other[:, None]).solution[:, 0] for one, other in parts]
    fishers = [(one**2).sum(dim=0) for one, _ in parts]
    whole = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]

    fused = fisher_weighted([{"w": fit} for fit in fits], [{"w": fisher} for fisher in fishers])["w"]
    plain = weighted_average([{"w": fit} for fit in fits])["w"]

    assert (fused - whole).norm() < 0.2 * (plain - whole).norm()
    assert (fused - true).norm() < (plain - true).norm()


def test_fisher_weights_by_hand_and_where_nobody_is_sure_the_plain_average() -> None:
    states = [{"w": torch.tensor([0.0, 0.0, 0.0])}, {"w": torch.tensor([6.0, 6.0, 6.0])}]
    fishers = [{"w": torch.tensor([2.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 5.0, 0.0])}]

    assert fisher_weighted(states, fishers)["w"].tolist() == pytest.approx([2.0, 6.0, 3.0])
    assert fisher_weighted(states, fishers, [1, 2])["w"].tolist() == pytest.approx([3.0, 6.0, 4.0])
    assert fisher_weighted(states, [{}, {}])["w"].tolist() == pytest.approx([3.0, 3.0, 3.0])
    with pytest.raises(FusionError, match="negative, not finite or of another shape: w"):
        fisher_weighted(states, [{"w": torch.tensor([-1.0, 0, 0])}, {}])
    with pytest.raises(FusionError, match="2 models and 1 Fisher"):
        fisher_weighted(states, [{}])


def test_models_that_differ_in_a_head_are_fused_in_the_rest() -> None:
    torch.manual_seed(0)
    small, large = (SharedModel(CONFIG, capacity=capacity).state_dict() for capacity in (4, 9))

    fused, kept = fuse_agreeing([small, large], weighted_average)

    assert kept == ("id_embedding.weight",)
    assert torch.equal(fused["id_embedding.weight"], small["id_embedding.weight"])
    name = "blocks.0.query.weight"
    assert torch.allclose(fused[name], (small[name] + large[name]) / 2)
    assert fused.keys() == small.keys()


def test_catalogues_that_overlap_meet_in_their_items() -> None:
    ids, rows = fuse_rows([(["a", "b"], torch.ones(2, 2)), (["c", "b"], 3 * torch.ones(2, 2))], [3, 1])

    assert ids == ["a", "b", "c"]
    assert rows.tolist() == [[1.0, 1.0], [1.5, 1.5], [3.0, 3.0]]
    with pytest.raises(FusionError, match="widths"):
        fuse_rows([(["a"], torch.ones(1, 2)), (["a"], torch.ones(1, 3))])


# ---- by logits


def test_a_student_learns_what_its_teachers_say_together() -> None:
    torch.manual_seed(0)
    x, teachers = torch.randn(64, 4), [torch.randn(4, 5), torch.randn(4, 5)]
    targets = mixed_targets([x @ teacher for teacher in teachers], [3.0, 1.0])
    expected = 0.75 * F.softmax(x @ teachers[0], dim=1) + 0.25 * F.softmax(x @ teachers[1], dim=1)
    assert torch.allclose(targets, expected, atol=1e-6)

    student = torch.zeros(4, 5, requires_grad=True)
    optimizer, losses = torch.optim.Adam([student], lr=0.1), []
    for _ in range(200):
        loss = distillation_loss(x @ student, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    entropy = float(-(targets * targets.log()).sum(dim=1).mean())
    assert entropy <= losses[-1] < entropy + 0.1 < losses[0]


def test_teachers_with_other_catalogues_speak_only_for_what_they_know() -> None:
    logits = [torch.zeros(1, 3), torch.zeros(1, 3)]
    known = [torch.tensor([True, True, False]), torch.tensor([False, True, True])]

    assert mixed_targets(logits, [1, 1], known=known)[0].tolist() == pytest.approx([1 / 3] * 3)
    nothing = [torch.tensor([True, True, False]), torch.tensor([False, False, False])]
    assert mixed_targets(logits, [1, 1], known=nothing)[0].tolist() == pytest.approx([0.5, 0.5, 0.0])
    with pytest.raises(FusionError, match="expected one shape"):
        mixed_targets([torch.zeros(1, 3), torch.zeros(1, 2)], [1, 1])


def test_a_higher_temperature_keeps_the_size_of_the_gradient() -> None:
    sizes = []
    for temperature in (1.0, 10.0):
        student = torch.tensor([[0.1, -0.1]], requires_grad=True)
        targets = mixed_targets([torch.tensor([[0.3, -0.3]])], [1], temperature=temperature)
        distillation_loss(student, targets, temperature=temperature).backward()
        sizes.append(float(student.grad.norm()))  # type: ignore[union-attr]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_weights_follow_a_shop_that_changes_where_fixed_ones_cannot() -> None:
    rng, adaptive = np.random.default_rng(0), AdaptiveWeights(3, rate=0.5, share=0.01)
    lost = {"adaptive": 0.0, "fixed": 0.0}
    fixed = [0.8, 0.1, 0.1]  # chosen once, while the first model was the best
    for step in range(600):
        best = 0 if step < 300 else 2
        losses = [float(rng.random() * (0.4 if model == best else 1.0)) for model in range(3)]
        lost["adaptive"] += float(np.dot(adaptive.values, losses))
        lost["fixed"] += float(np.dot(fixed, losses))
        adaptive.update(losses)
        assert sum(adaptive.values) == pytest.approx(1.0)
    assert max(range(3), key=adaptive.values.__getitem__) == 2
    assert lost["adaptive"] < 0.8 * lost["fixed"]


def test_adaptive_weights_bear_wild_losses_and_resume_where_they_were() -> None:
    weights = AdaptiveWeights(2)
    for losses in ([math.nan, 0.0], [math.inf, -5.0], [1e9, 0.5]):
        weights.update(losses)
    assert all(0 < value < 1 for value in weights.values)
    assert weights.values[1] > weights.values[0]
    other = AdaptiveWeights(2)
    other.set_state(weights.get_state())
    assert other.values == weights.values
    with pytest.raises(FusionError, match="1 losses; expected 2"):
        weights.update([0.5])
    with pytest.raises(FusionError, match="count=0"):
        AdaptiveWeights(0)


# ---- methods


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Sharing:
    """Two models that learned the same ring from a few people each, and both markets' validation."""
    folder, members, inputs = tmp_path_factory.mktemp("members"), [], []
    for seed in (1, 2):
        shop = replace(ring(rows=40, seed=seed), seed=0)
        (folder / str(seed)).mkdir()
        candidate = run_round(shop, folder / str(seed)).candidate
        assert candidate is not None
        members.append(Member(load_release(candidate), {}, torch.from_numpy(shop.active)))
        inputs.append(shop)
    return Sharing(members=members, inputs=inputs)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_makes_one_model_of_two_that_serves_both(method: str, sharing: Sharing) -> None:
    alone = [ndcg_at(member.release, sharing.inputs) for member in sharing.members]

    shared = share(method, sharing)

    assert shared.release.item_matrix.shape == sharing.members[0].release.item_matrix.shape
    assert not shared.release.item_matrix[0].any()
    assert np.mean(ndcg_at(shared.release, sharing.inputs)) > 0.8 * np.mean(alone)
    again = share(method, sharing)
    assert np.array_equal(again.release.item_matrix, shared.release.item_matrix)


def test_methods_that_choose_are_no_worse_on_validation_than_what_they_begin_with(sharing: Sharing) -> None:
    even = sharing.score(share("uniform", sharing).release)
    alone = [sharing.score(member.release) for member in sharing.members]

    assert sharing.score(share("composition", sharing).release) >= even - 1e-9
    # `soup` judges the trunk with everybody's items, so its best single model is not one of these
    assert sharing.score(share("soup", sharing).release) >= min(*alone, even) - 1e-9


def test_an_unknown_method_and_a_single_model_are_refused(sharing: Sharing) -> None:
    with pytest.raises(FusionError, match="method is 'magic'; expected one of uniform, weighted"):
        share("magic", sharing)
    with pytest.raises(FusionError, match="there are 1 models; expected at least 2"):
        share("uniform", replace(sharing, members=sharing.members[:1]))


def test_what_a_model_is_sure_of_is_measured_without_changing_it(sharing: Sharing) -> None:
    release = sharing.members[0].release
    before = {name: value.clone() for name, value in release.model.state_dict().items()}

    sure = measured_fisher(release, sharing.inputs[0], samples=8)

    assert sure.keys() == sharing.members[0].trunk.keys()
    assert all(bool((value >= 0).all()) for value in sure.values())
    assert any(bool((value > 0).any()) for value in sure.values())
    assert all(torch.equal(before[name], value) for name, value in release.model.state_dict().items())


# ---- composition


def test_adapters_put_side_by_side_are_the_weighted_sum_of_their_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [
        LowRankPair(torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator))
        for rank in (2, 3)
    ]

    joined = concatenated(pairs, [0.25, -2.0])

    assert joined.down.shape == (5, 6)
    assert torch.allclose(joined.product(), 0.25 * pairs[0].product() - 2.0 * pairs[1].product(), atol=1e-5)
    with pytest.raises(FusionError, match="matrices of different shapes"):
        concatenated([pairs[0], LowRankPair(torch.ones(1, 2), torch.ones(5, 1))], [1.0, 1.0])
    with pytest.raises(FusionError, match="there are 2 changes and weights"):
        concatenated(pairs, [1.0])


def test_all_changes_with_even_shares_are_the_average_whatever_the_base() -> None:
    torch.manual_seed(0)
    base, *states = (SharedModel(CONFIG, capacity=4).state_dict() for _ in range(3))

    found, average = composed(base, states, [0.5, 0.5]), weighted_average(states)

    assert all(torch.allclose(found[name], average[name], atol=1e-6) for name in average)
    nothing = composed(base, states, [0.0, 0.0])
    assert all(torch.equal(nothing[name], base[name]) for name in base)
