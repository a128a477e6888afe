import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from benchmarks.sessions.competitors import Competitors
from benchmarks.sessions.covisits import FadingCounts, pairs
from benchmarks.sessions.data import Questions, Sessions, questions
from benchmarks.sessions.fast_memory import FastMemory, MemoryConfig
from benchmarks.sessions.opinions import CONTEXTS, MEMORY_EXPERTS, MODEL_EXPERTS
from benchmarks.sessions.rows import Rows, rows_of
from benchmarks.sessions.shared_model import TrainingConfig, from_scratch, restarted, scores_of, train
from benchmarks.sessions.softmax import StandIns, full_softmax_loss
from benchmarks.sessions.spectral import spectral_vectors, turned_towards
from benchmarks.sessions.weights import Lesson, first_weights, learn_weights
from learners.errors import DivergedError

CONFIG = TrainingConfig(width=8, dropout=0.0, input_dropout=0.0, history_length=4, max_epochs=3, batch_sessions=4)
SOME = Sessions(np.array([1, 2, 3, 2, 1, 3, 4]), np.array([0, 3, 5, 7]))


def test_counts_fade_when_a_period_is_added() -> None:
    counts = FadingCounts(decay=0.5)
    counts.add(np.array([1]), np.array([2]), np.array([4.0]), items=2)
    counts.add(np.array([3]), np.array([1]), np.array([1.0]), items=3)
    assert counts.matrix.toarray()[1, 2] == 2
    assert counts.matrix.toarray()[3, 1] == 1


def test_pairs_stay_inside_a_session() -> None:
    found = pairs(SOME)
    assert sorted(zip(found.earlier.tolist(), found.later.tolist(), found.lags.tolist(), strict=True)) == [
        (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 3, 1), (3, 4, 1),
    ]  # fmt: skip


def test_opinions_combine_as_the_sum_of_their_parts() -> None:
    memory = FastMemory(MemoryConfig(rank=4))
    memory.learn(SOME, items=4)
    asked = questions(SOME, history_length=3)
    model = np.random.default_rng(0).standard_normal((len(asked), 5)).astype(np.float32)
    opinions = memory.opinions(asked, model=model)
    names = MEMORY_EXPERTS + MODEL_EXPERTS
    rng = np.random.default_rng(1)
    weights = {name: rng.standard_normal(CONTEXTS).astype(np.float32) for name in names}
    every_item = np.tile(np.arange(1, 5), (len(asked), 1))
    single = opinions.at(every_item, names)
    contexts = np.minimum(asked.lengths, 2) - 1
    expected = sum(weights[name][contexts][:, None] * single[..., place] for place, name in enumerate(names))
    assert np.allclose(opinions.combined(weights)[:, 1:], expected, atol=1e-4)


def test_weights_find_the_expert_that_knows() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(10, size=400)
    features = rng.standard_normal((400, 10, 2))
    features[np.arange(400), truth, 0] += 3
    lesson = Lesson(features.astype(np.float16), truth, rng.integers(CONTEXTS, size=400), ("next", "after"))
    weights = learn_weights(lesson, ("next", "after"))
    assert (weights["next"] > 1).all()
    assert (np.abs(weights["after"]) < 0.5).all()


def test_without_a_lesson_the_first_guess_stands() -> None:
    names = ("next", "spectral")
    empty = Lesson(np.zeros((0, 3, 2), np.float16), np.zeros(0, np.int64), np.zeros(0, np.int64), names)
    learned = learn_weights(empty, names)
    assert all((learned[name] == value).all() for name, value in first_weights(names).items())


def test_the_fast_softmax_has_the_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    users, items = torch.randn(6, 8), torch.randn(9, 8)
    targets = torch.randint(9, (6,))
    gradients = []
    for loss_of in (full_softmax_loss, lambda u, v, t: torch.nn.functional.cross_entropy(u @ v.T, t)):
        u, v = users.clone().requires_grad_(), items.clone().requires_grad_()
        loss = loss_of(u, v, targets)
        (2 * loss).backward()
        gradients.append((loss.detach(), u.grad, v.grad))
    for fast, plain in zip(*gradients, strict=True):
        assert torch.allclose(fast, plain, atol=1e-5)


def test_stand_ins_count_for_all_whom_they_stand_for() -> None:
    users, items = torch.zeros(1, 2), torch.zeros(4, 2)
    loss = full_softmax_loss(users, items, torch.tensor([0]), stand_ins=StandIns(1, math.log(7)))
    assert loss.item() == pytest.approx(math.log(3 + 7))


def test_an_epoch_has_every_item_of_its_rows_and_no_padding() -> None:
    rows = Rows(torch.tensor([[1, 5, 0]]), torch.tensor([2]))
    drawn = Competitors.drawn(rows, items=6, most=100, generator=torch.Generator().manual_seed(0))
    assert sorted(drawn.items.tolist()) == [1, 2, 3, 4, 5, 6]
    assert drawn.stand_ins.log_weight == 0.0
    assert drawn.items[drawn.places[5]] == 5


def test_vectors_of_items_that_are_clicked_together_are_alike() -> None:
    together = sp.csr_matrix(np.array([[0, 9, 0, 0], [9, 0, 1, 0], [0, 1, 0, 9], [0, 0, 9, 0]], np.float32))
    vectors = spectral_vectors(together, rank=2, shrink=0.0, power=0.5, stretch=0.5)
    assert vectors[0] @ vectors[1] > 0.9
    assert vectors[0] @ vectors[3] < 0.5


def test_turning_undoes_a_turn() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 4)).astype(np.float32)
    turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    assert np.allclose(turned_towards((vectors @ turn).astype(np.float32), vectors[:15]), vectors, atol=1e-5)


def test_a_restart_keeps_the_attention_and_part_of_the_rows() -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    before = from_scratch(CONFIG, items=4, seed=1)
    after = restarted(before, np.pad(vectors, ((0, 2), (0, 0))), CONFIG, seed=2)
    assert after.capacity == 7
    assert torch.equal(after.positions.weight, before.positions.weight)
    turned = torch.from_numpy(turned_towards(vectors, before.id_embedding.weight[:5].detach().numpy()))
    expected = (turned[1:] + before.id_embedding.weight[1:5]) / 2
    assert torch.allclose(after.id_embedding.weight[1:5], expected, atol=1e-5)


def test_training_learns_and_ends_by_its_rule() -> None:
    rows = rows_of(SOME, history_length=4)
    model = from_scratch(CONFIG, items=4, seed=0)
    curve = train(model, rows, CONFIG, seed=0)
    assert curve.losses[-1] < curve.losses[0]
    assert 2 <= len(curve.losses) <= 3


def test_training_on_nothing_changes_nothing() -> None:
    model = from_scratch(CONFIG, items=4, seed=0)
    before = model.id_embedding.weight.clone()
    nothing = rows_of(Sessions(np.array([1]), np.array([0, 1])), history_length=4)
    assert train(model, nothing, CONFIG, seed=0).steps == 0
    assert torch.equal(model.id_embedding.weight, before)


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    model = from_scratch(CONFIG, items=4, seed=0)
    with torch.no_grad():
        model.positions.weight.fill_(float("nan"))
    with pytest.raises(DivergedError):
        train(model, rows_of(SOME, history_length=4), CONFIG, seed=0)


def test_a_history_longer_than_the_network_reads_keeps_its_newest_clicks() -> None:
    model = from_scratch(CONFIG, items=9, seed=0)
    long = Questions(np.arange(1, 8)[None], np.array([7]), np.array([8]), np.array([0]))
    short = Questions(np.arange(4, 8)[None], np.array([4]), np.array([8]), np.array([0]))
    found = [scores_of(model, one.histories, one.lengths) for one in (long, short)]
    assert np.allclose(*found, atol=1e-6)
