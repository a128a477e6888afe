"""Differential privacy: the accountant's figures, the noise, one length for every person, and who may leave."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.errors import InvalidModelConfigError
from learners.knowledge.archive import export_archive
from learners.knowledge.entry import Lineage
from learners.knowledge.errors import PrivateEntryError
from learners.knowledge.keys import load_signing_key
from learners.knowledge.privacy import PrivacyConfig, noise_for, noisy_sum, person_gradient, spent, train_privately
from learners.knowledge.privacy import _trainer as trainer_of
from learners.model import SharedModel
from learners.training_rows import prepare
from tests.learners.knowledge_data import deposit_head, exemplars, open_store, write_keys
from tests.learners.rounds_data import ring

pytest.importorskip("opacus")


def test_the_accountant_agrees_with_the_published_figure_and_with_a_sum_by_hand() -> None:
    """Abadi et al., CCS 2016, section 3.2: sigma 4, rate 0.01, 100 epochs, delta 1e-5: epsilon 1.26."""
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = [1 + x / 10.0 for x in range(1, 100)] + list(range(11, 64))
    cost = compute_rdp(q=0.01, noise_multiplier=4.0, steps=10_000, orders=orders)
    as_published = min(rdp + math.log(1e5) / (order - 1) for rdp, order in zip(cost, orders, strict=True))
    config = PrivacyConfig(sample_rate=0.01, steps=10_000)

    assert as_published == pytest.approx(1.26, abs=0.01)
    assert 1.0 < spent(config, 4.0) <= as_published  # the same cost, turned into epsilon by a tighter bound

    everybody = PrivacyConfig(sample_rate=1.0, steps=10)  # without sampling, order a costs a / (2 sigma^2) a step
    plain = min(10 * a / (2 * 3.0**2) + math.log(1e5) / (a - 1) for a in orders)
    assert 0.8 * plain < spent(everybody, 3.0) <= plain


def test_the_noise_is_the_least_that_stays_within_the_budget_and_less_budget_needs_more() -> None:
    config = PrivacyConfig(epsilon=4.0, steps=50)
    noise = noise_for(config)

    assert 0.9 * config.epsilon < spent(config, noise) <= config.epsilon
    assert spent(config, 0.9 * noise) > config.epsilon
    assert noise_for(replace(config, epsilon=1.0)) > 2 * noise


def test_nobody_counts_for_more_than_the_clip_and_noise_of_its_length_is_really_added() -> None:
    like, generator = [torch.zeros(40, 50), torch.zeros(10)], torch.Generator().manual_seed(0)
    loud = [torch.full((40, 50), 100.0), torch.full((10,), -100.0)]
    quiet = [torch.full((40, 50), 1e-4), torch.zeros(10)]

    only = noisy_sum([loud], like=like, clip=0.5, noise=0.0, generator=generator)
    both = noisy_sum([loud, quiet], like=like, clip=0.5, noise=0.0, generator=generator)
    length = math.sqrt(sum(float(part.square().sum()) for part in only))
    assert length == pytest.approx(0.5, rel=1e-5)
    assert torch.allclose(both[0] - only[0], quiet[0], atol=1e-6)  # who is below the clip counts in full

    noisy = noisy_sum([], like=like, clip=0.5, noise=3.0, generator=generator)
    assert float(noisy[0].std()) == pytest.approx(1.5, rel=0.05)
    assert abs(float(noisy[0].mean())) < 0.15


def test_a_person_is_one_row_whose_gradient_is_of_all_their_targets() -> None:
    round_input = ring(rows=6)
    model = SharedModel(round_input.model, capacity=64)
    model.id_embedding.requires_grad_(requires_grad=False)
    learned = [value for value in model.parameters() if value.requires_grad]
    rows, _ = prepare(round_input, np.random.default_rng(0))
    trainer = trainer_of(model, round_input)

    one, other = (person_gradient(trainer, rows, person, learned) for person in (0, 1))

    assert len(rows) == 6
    assert [part.shape for part in one] == [value.shape for value in learned]
    assert any(not torch.allclose(a, b) for a, b in zip(one, other, strict=True))


def test_a_private_trunk_depends_on_the_noise_and_states_what_it_cost() -> None:
    round_input = ring(rows=30)
    config = PrivacyConfig(epsilon=2.0, steps=3, sample_rate=0.5)

    one, again, other = (train_privately(round_input, config, seed=seed) for seed in (1, 1, 2))

    assert all(torch.equal(one.trunk[name], again.trunk[name]) for name in one.trunk)
    assert any(not torch.equal(one.trunk[name], other.trunk[name]) for name in one.trunk)
    assert "id_embedding.weight" not in one.trunk
    assert 1.8 < one.epsilon <= 2.0
    said = one.notes(config)
    assert (said["unit"], said["delta"], float(said["epsilon"])) == (
        "person",
        "1e-05",
        pytest.approx(one.epsilon, 1e-4),
    )


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"delta": 1.0}, {"clip": -1.0}, {"sample_rate": 0.0}])
def test_settings_that_protect_nobody_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidModelConfigError):
        PrivacyConfig(**wrong)  # type: ignore[arg-type]


def test_only_what_states_its_epsilon_leaves_and_all_of_it_together_within_the_bound(
    knowledge_url: str, tmp_path: Path
) -> None:
    store, key = open_store(knowledge_url, tmp_path / "artifacts"), load_signing_key(write_keys(tmp_path, "shop")[0])
    notes = {"epsilon": "3", "delta": "1e-05"}
    first, second = (deposit_head(store, seed, lineage=Lineage(task="a", notes=notes)) for seed in (1, 2))
    plain = deposit_head(store, 3)
    raw = store.deposit(
        exemplars(("ada", 1)), kind="exemplars", privacy="personal", lineage=Lineage(task="a", notes=notes)
    )
    file = tmp_path / "k.tar"

    def export(*ids: str, bound: float) -> list[str]:
        sent = export_archive(store, file, entry_ids=ids, key=key, shop=True, max_epsilon=bound)
        return [entry.entry_id for entry in sent]

    assert export(first.entry_id, bound=3.0) == [first.entry_id]
    assert len(export(first.entry_id, second.entry_id, bound=6.0)) == 2
    file.unlink()
    with pytest.raises(PrivateEntryError, match=r"at epsilon 6 with what goes before it and does not leave; the bound"):
        export(first.entry_id, second.entry_id, bound=5.0)
    with pytest.raises(PrivateEntryError, match="not differentially private and does not leave; its lineage states no"):
        export(plain.entry_id, bound=100.0)
    with pytest.raises(PrivateEntryError, match="is personal and does not leave"):  # whatever its lineage states
        export(raw.entry_id, bound=100.0)
    assert not file.exists()
