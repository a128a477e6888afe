"""Reuse: a market like one that was learned starts where that ended, and a wrong donor loses its trial."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.knowledge.accumulation import Accumulation
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import decode_tensors, encode_tensors
from learners.knowledge.entry import Entry
from learners.knowledge.errors import UnfitDonorError
from learners.knowledge.reuse import TrialConfig, choose_start, first_round, prepare_start
from learners.knowledge.store import KnowledgeStore
from learners.releases.registry import ReleaseRecord
from learners.releases.release import load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round
from tests.learners.knowledge_data import open_store
from tests.learners.rounds_data import ring

NDCG = "newest_ndcg_10"


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoundInput, Path]:
    """A market with many people, and the release of its round."""
    folder = tmp_path_factory.mktemp("taught")
    round_input = ring(rows=200)
    result = run_round(round_input, folder)
    assert result.metrics[NDCG] > 0.9
    return round_input, folder / "candidate"


def record_of(candidate: Path) -> ReleaseRecord:
    """The row of a first release."""
    return ReleaseRecord(
        model="shared_model",
        version=1,
        sequence=1,
        kind="release",
        uri=candidate.as_uri(),
        sha256="",
        parent=None,
        offsets={},
        metrics={NDCG: 0.9},
        verdict={},
        triggered_at_ms=1,
        released_at_ms=2,
    )


def keep(store: KnowledgeStore, taught: tuple[RoundInput, Path]) -> Entry:
    """Deposit what the market learned; returns the trunk's entry."""
    round_input, candidate = taught
    record = record_of(candidate)
    accumulation = Accumulation(store, collection=CollectionConfig(max_bytes=10**9), task="uk", encoder="hash")
    return accumulation.keep(record, load_release(candidate), round_input, round_key="a-1").entries[0]


def new_market(*, rows: int = 12, named: str = "new") -> RoundInput:
    """The same kinds of goods under other names, and few people."""
    small = ring(rows=rows, seed=5)
    return replace(small, item_ids=["", *(f"{named}-{number}" for number in range(1, len(small.item_ids)))])


def shuffled(store: KnowledgeStore, entry: Entry, *, encoder: str) -> Entry:
    """The same knowledge with every tensor's numbers in another order, told apart by the encoder that it names."""
    generator = torch.Generator().manual_seed(0)
    mixed = {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        for name, value in sorted(
            decode_tensors(store.read(entry.entry_id)).items()
        )  # files keep no order of their own
    }
    return store.deposit(
        encode_tensors(mixed),
        kind="adapter",
        privacy="shop",
        lineage=replace(entry.lineage, task="shuffled", notes={**entry.lineage.notes, "encoder": encoder}),
        embedding=entry.embedding,
    )


def test_a_market_like_one_that_was_learned_starts_far_above_from_scratch(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    donor, market = keep(store, taught), new_market()

    choice = choose_start(store, market, tmp_path, encoder="hash")

    assert choice.entry_id == donor.entry_id
    scratch, reused = choice.trials
    assert (scratch.entry_id, reused.entry_id) == (None, donor.entry_id)
    assert reused.similarity > 0.9  # type: ignore[operator]
    assert reused.ndcg_10 > scratch.ndcg_10 + 0.2
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    with_store = run_round(first_round(market, choice), tmp_path / "with").metrics[NDCG]
    without = run_round(market, tmp_path / "without").metrics[NDCG]
    assert with_store > without + 0.1


def test_a_wrong_donor_loses_its_trial_and_the_market_starts_from_scratch(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    right = keep(store, taught)
    beside, wrong = (shuffled(store, right, encoder=encoder) for encoder in ("hash", "another"))
    market, config = new_market(rows=60), TrialConfig(donors=5, epochs=4, noise=1.0)
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.mkdir()
    alone.mkdir()

    choice = choose_start(store, market, both, encoder="hash", config=config)
    assert {trial.entry_id for trial in choice.trials} == {None, right.entry_id, beside.entry_id}
    assert choice.entry_id == right.entry_id

    choice = choose_start(store, market, alone, encoder="another", config=config)  # only the wrong one fits that
    assert {trial.entry_id for trial in choice.trials} == {None, wrong.entry_id}
    assert (choice.entry_id, choice.start) == (None, None)


def test_where_nothing_fits_the_start_is_from_scratch_and_reasons_are_given(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    donor, market = keep(store, taught), new_market()
    choice = choose_start(store, market, tmp_path, encoder="minilm")
    assert choice.trials[1:] == ()
    assert first_round(market, choice).incumbent is None

    narrow = replace(market, model=replace(market.model, width=16))
    choice = choose_start(store, narrow, tmp_path, encoder="hash")
    assert (choice.entry_id, choice.start) == (None, None)
    assert f"{donor.entry_id} does not fit" in choice.trials[1].refused
    with pytest.raises(UnfitDonorError, match="differ in name or shape"):
        prepare_start(store, donor, narrow, tmp_path / "narrow")


def test_items_that_both_markets_sell_stand_where_they_stood(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    donor, (round_input, candidate) = keep(store, taught), taught
    names = ["", "unheard-of", *round_input.item_ids[1:-1]]
    market = replace(new_market(), item_ids=names)

    prepare_start(store, donor, market, tmp_path / "start")

    start, served = load_release(tmp_path / "start"), load_release(candidate)
    for item_id in names[2:]:
        expected = served.item_matrix[served.index_of[item_id]]
        assert np.allclose(start.item_matrix[start.index_of[item_id]], expected, atol=1e-5)
    described = served.encode_new_items(market.text_vectors[1:2])[0]
    assert np.allclose(start.item_matrix[1], described, atol=0.2)
