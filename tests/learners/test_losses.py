"""Losses with known answers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from learners.errors import InvalidModelConfigError
from learners.releases.release import load_release
from learners.rounds.losses import distillation_loss, gbce_loss, sample_columns, softmax_loss
from learners.rounds.material import RoundConfig
from learners.rounds.round import run_round
from tests.learners.rounds_data import TRAINING, ring


def test_cross_entropy_of_uniform_scores_is_the_log_of_the_catalogue() -> None:
    loss = softmax_loss(torch.zeros(3, 4), torch.randn(10, 4), torch.tensor([0, 5, 9]), torch.ones(3))
    torch.testing.assert_close(loss, torch.tensor(math.log(10)))


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    users, columns, targets = torch.randn(2, 4), torch.randn(5, 4), torch.tensor([1, 2])
    doubled = softmax_loss(users[[0, 1, 1]], columns, targets[[0, 1, 1]], torch.ones(3))
    torch.testing.assert_close(softmax_loss(users, columns, targets, torch.tensor([1.0, 2.0])), doubled)


def test_distillation_is_nothing_for_equals_and_the_divergence_otherwise() -> None:
    users, columns = torch.randn(3, 4), torch.randn(6, 4)
    teacher_users, teacher_columns = torch.randn(3, 7), torch.randn(6, 7)
    torch.testing.assert_close(distillation_loss(users, columns, users, columns), torch.tensor(0.0))

    p = (teacher_users @ teacher_columns.T).softmax(dim=-1)
    q = (users @ columns.T).softmax(dim=-1)
    expected = (p * (p / q).log()).sum(dim=-1).mean()
    torch.testing.assert_close(distillation_loss(users, columns, teacher_users, teacher_columns), expected)


def test_every_target_is_among_the_sampled_columns() -> None:
    targets, pool = torch.tensor([900, 3, 3]), torch.arange(1, 1_000)
    columns, log_chance = sample_columns(targets, pool, size=50, generator=torch.Generator().manual_seed(0))
    assert torch.isin(targets, columns).all()
    assert (columns[1:] > columns[:-1]).all()
    assert len(columns) <= 52
    assert (log_chance <= 0).all()
    chance = dict(zip(columns.tolist(), log_chance.exp().tolist(), strict=True))
    assert chance[3] == chance[900] == 1
    assert abs(min(chance.values()) - (1 - (1 - 1 / 999) ** 50)) < 1e-6


def test_the_sampled_loss_is_close_to_the_full_one() -> None:
    torch.manual_seed(0)
    items, users = 0.5 * torch.randn(2_000, 16), torch.randn(400, 16)
    targets = torch.randint(1, 2_000, (400,))
    full = F.cross_entropy(users @ items.T, targets)
    generator, pool = torch.Generator().manual_seed(0), torch.arange(1, 2_000)
    sampled = []
    for _ in range(20):
        columns, log_chance = sample_columns(targets, pool, size=600, generator=generator)
        position = torch.searchsorted(columns, targets)
        sampled.append(softmax_loss(users, items[columns], position, torch.ones(400), log_chance=log_chance).item())
    assert abs(sum(sampled) / 20 - full.item()) < 0.05  # uncorrected it is 0.8 lower


def test_gbce_on_the_whole_catalogue_is_binary_cross_entropy_of_every_item() -> None:
    users, columns, targets = torch.randn(3, 4), torch.randn(6, 4), torch.tensor([5, 0, 2])
    expected = F.binary_cross_entropy_with_logits(users @ columns.T, F.one_hot(targets, 6).float())
    torch.testing.assert_close(gbce_loss(users, columns, targets, torch.ones(3)), expected)


def test_gbce_raises_the_positive_to_the_papers_power() -> None:
    # Half of the catalogue is drawn, so alpha = 1/2 and beta = alpha * (t * (1 - 1/alpha) + 1/alpha) = 1 - t/2.
    users, columns, targets = torch.randn(1, 4), torch.randn(5, 4), torch.tensor([2])
    log_chance = torch.tensor([0.5, 0.5, 1.0, 0.5, 0.5]).log()
    scores = (users @ columns.T)[0]
    for calibration, beta in ((0.0, 1.0), (0.75, 0.625), (1.0, 0.5)):
        yes = (scores[2].sigmoid() ** beta).log()
        nos = (1 - scores[[0, 1, 3, 4]].sigmoid()).log().sum()
        found = gbce_loss(users, columns, targets, torch.ones(1), log_chance=log_chance, calibration=calibration)
        torch.testing.assert_close(found, -(yes + nos) / 5)


def test_a_fully_calibrated_gbce_finds_the_true_chances_that_plain_sampled_bce_exaggerates() -> None:
    # One context, four items with known chances; scores are free. Fitted on samples of the negatives, the sigmoid of a
    # score is the item's chance at t = 1 and too high at t = 0 (equation 9 of the paper).
    truth = torch.tensor([0.4, 0.3, 0.2, 0.1])
    found = {}
    for calibration in (0.0, 1.0):
        generator = torch.Generator().manual_seed(0)
        scores = torch.zeros(400, 1, requires_grad=True)
        optimizer = torch.optim.Adam([scores], lr=0.05)
        chances = torch.cat([truth, torch.zeros(396)])
        for _ in range(600):
            targets = torch.multinomial(chances, 256, replacement=True, generator=generator)
            columns, log_chance = sample_columns(targets, torch.arange(400), size=40, generator=generator)
            loss = gbce_loss(
                torch.ones(256, 1),
                scores[columns],
                torch.searchsorted(columns, targets),
                torch.ones(256),
                log_chance=log_chance,
                calibration=calibration,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[calibration] = scores[:4, 0].sigmoid().detach()
    torch.testing.assert_close(found[1.0], truth, atol=0.05, rtol=0)
    assert (found[0.0] > truth + 0.2).all()


def test_popular_items_are_drawn_more_often_and_their_chance_is_known() -> None:
    pool, popularity = torch.arange(1, 101), torch.arange(1, 101).double()
    generator = torch.Generator().manual_seed(0)
    drawn, promised = torch.zeros(101), torch.zeros(101)
    for _ in range(2_000):
        columns, log_chance = sample_columns(
            torch.tensor([7]), pool, size=20, generator=generator, popularity=popularity
        )
        drawn[columns] += 1
        promised[columns] = log_chance.exp()
    others = [item for item in range(1, 101) if item != 7]
    assert drawn[7] == 2_000
    assert promised[7] == 1
    torch.testing.assert_close(drawn[others] / 2_000, promised[others], atol=0.04, rtol=0)
    assert promised[100] > 10 * promised[2]


def test_the_loss_sampled_by_popularity_is_close_to_the_full_one() -> None:
    torch.manual_seed(0)
    items, users = 0.5 * torch.randn(2_000, 16), torch.randn(400, 16)
    targets, pool = torch.randint(1, 2_000, (400,)), torch.arange(1, 2_000)
    full = F.cross_entropy(users @ items[1:].T, targets - 1)
    popularity = 1 + 20 * torch.rand(1_999).double()
    generator = torch.Generator().manual_seed(0)
    sampled = {True: 0.0, False: 0.0}
    for _ in range(20):
        columns, log_chance = sample_columns(targets, pool, size=600, generator=generator, popularity=popularity)
        true = torch.searchsorted(columns, targets)
        for corrected in sampled:
            chance = log_chance if corrected else None
            loss = softmax_loss(users, items[columns], true, torch.ones(400), log_chance=chance)
            sampled[corrected] += loss.item() / 20
    assert abs(sampled[True] - full.item()) < 0.05
    assert full.item() - sampled[False] > 0.5


@pytest.mark.parametrize(
    "changes",
    [{"loss": "gbce", "first_epochs": 40}, {"sampling": "popularity"}, {"loss": "softmax"}],
    ids=str,
)
def test_each_loss_and_sampling_learns_the_ring_and_does_so_twice_alike(
    changes: dict[str, object], tmp_path: Path
) -> None:
    uniform = replace(TRAINING, first_full_softmax_items=0, first_sampled_negatives=16, sampling="uniform")
    training = replace(uniform, threads=1, device="cpu", **changes)
    figures, weights = [], []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        result = run_round(ring(training=training), tmp_path / name)
        figures.append(result.metrics["newest_hit_rate_10"])
        weights.append(load_release(result.candidate).model.state_dict())
    assert figures[0] == figures[1] > 0.9
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own ways
def test_a_compiled_round_learns_what_a_plain_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph is captured, with its changing shapes, but no machine code is made of it: that takes minutes of a core.
    compiled_with = []

    def capture(model: torch.nn.Module, *, dynamic: bool) -> object:
        compiled_with.append(dynamic)
        return real(model, dynamic=dynamic, backend="eager")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", capture)
    losses = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        folder.mkdir()
        training = replace(TRAINING, first_epochs=2, compile=compiled, device="cpu")
        losses.append(run_round(ring(training=training), folder).training["last_loss"])
    assert compiled_with == [True]
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"loss": "bpr"}, {"sampling": "hard"}, {"loss": "gbce", "sampling": "popularity"}], ids=str
)
def test_losses_and_samplings_that_do_not_exist_or_not_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidModelConfigError, match="expected"):
        RoundConfig(**changes)  # type: ignore[arg-type]
