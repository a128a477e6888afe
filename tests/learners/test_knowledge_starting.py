"""A first round chooses its own start among the donors in its input, in the child, the same however often it is run."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learners.disk import sha256_of
from learners.errors import RoundFailedError
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import KeyedVectors, encode_tensors, encode_vectors
from learners.knowledge.donors import Donor, donor_of, find_donors, load_donors, newest_of_lines, save_donors
from learners.knowledge.entry import Entry, Kind, Lineage, describe
from learners.knowledge.reuse import Plan, TrialConfig, choose
from learners.knowledge.starting import run_from_donors
from learners.knowledge.store import KnowledgeStore, Match
from learners.releases.release import WEIGHTS, load_release
from learners.rounds.material import RoundInput
from learners.rounds.process import RoundProcess
from learners.rounds.round import run_round
from tests.learners.knowledge_data import open_store
from tests.learners.rounds_data import ring
from tests.learners.test_knowledge_reuse import keep, new_market, record_of, shuffled
from tests.waiting import wait_until

NDCG = "newest_ndcg_10"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoundInput, Path]:
    """A market with many people, and the release of its round."""
    folder = tmp_path_factory.mktemp("taught")
    round_input = ring(rows=200)
    run_round(round_input, folder)
    return round_input, folder / "candidate"


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def given(donors: list[Donor], folder: Path, *, rows: int = 12) -> RoundInput:
    """A new market's first round that may start from these donors."""
    save_donors(folder / "donors", donors)
    return replace(new_market(rows=rows), donors=folder / "donors")


def weights(folder: Path) -> bytes:
    """The weights of a round's candidate."""
    return (folder / "candidate" / WEIGHTS).read_bytes()


def tried_by(round_input: RoundInput, folder: Path) -> dict[str, object]:
    """What the round's child says of its start."""
    round_input.save(folder / "in")
    result = RoundProcess(folder / "in", folder / "out").start().result()
    assert result.candidate is not None
    assert [path.name for path in sorted((folder / "out").iterdir())] == ["candidate", "result.json"]
    return {**result.facts["start"], "metrics": result.metrics, "verdict": result.verdict}


def test_the_child_starts_from_the_donor_and_release_and_deposit_name_it(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    donor = keep(store, taught)
    found = find_donors(store, new_market(), encoder="hash", most=3)
    assert [each.entry.entry_id for each in found] == [donor.entry_id]

    start = tried_by(market := given(found, tmp_path), tmp_path)

    assert start["entry_id"] == donor.entry_id
    assert start["verdict"]["start"]["entry_id"] == donor.entry_id  # type: ignore[index]
    figures = start["metrics"]
    assert figures["reused"] == 1.0  # type: ignore[index]
    assert figures["trial_chosen"] > figures["trial_scratch"] + 0.2  # type: ignore[index]
    release = load_release(tmp_path / "out" / "candidate")
    assert release.manifest["parent"] is None
    assert release.manifest["facts"]["start"]["entry_id"] == donor.entry_id
    record = record_of(tmp_path / "out" / "candidate")
    kept = Accumulation(store, collection=CollectionConfig(max_bytes=10**9), task="new", encoder="hash").keep(
        record, release, market, round_key="b-1"
    )
    assert {entry.kind: donor.entry_id in entry.lineage.parents for entry in kept.entries} == {
        "adapter": True,
        "item_embeddings": True,
        "prototypes": False,
    }


def test_a_wrong_donor_is_refused_and_the_round_is_the_one_from_scratch(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    wrong = donor_of(store, shuffled(store, keep(store, taught), encoder="another"), 0.9)
    market = given([wrong], tmp_path, rows=60)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()

    result = run_from_donors(market, tmp_path / "with", config=TrialConfig(epochs=4, noise=1.0))
    plain = run_round(replace(market, donors=None), tmp_path / "without")

    assert result.facts["start"]["entry_id"] is None
    assert result.metrics["reused"] == 0.0
    assert result.metrics[NDCG] == plain.metrics[NDCG]
    assert weights(tmp_path / "with") == weights(tmp_path / "without")


def test_a_damaged_donor_is_refused_by_its_name_and_the_next_one_is_taken(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    good = keep(store, taught)
    bad = shuffled(store, good, encoder="hash")
    market = given([donor_of(store, bad, 0.95), donor_of(store, good, 0.9)], tmp_path)
    file = tmp_path / "donors" / bad.sha256
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    start = tried_by(market, tmp_path)

    assert start["entry_id"] == good.entry_id
    (refused,) = (trial for trial in start["trials"] if trial["refused"])  # type: ignore[attr-defined]
    assert refused["entry_id"] == bad.entry_id
    assert f"knowledge entry {bad.entry_id} is corrupt: sha256" in refused["refused"]


def test_a_child_killed_while_it_tries_chooses_the_same_when_the_round_is_repeated(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    keep(store, taught)
    market = given(find_donors(store, new_market(), encoder="hash", most=3), tmp_path)
    market.save(tmp_path / "in")
    killed = RoundProcess(tmp_path / "in", tmp_path / "out").start()
    wait_until(lambda: killed.progress()[0] > 0)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    with pytest.raises(RoundFailedError):
        killed.result()
    assert not (tmp_path / "out").exists()

    again = RoundProcess(tmp_path / "in", tmp_path / "out").start().result()
    calm = RoundProcess(tmp_path / "in", tmp_path / "calm").start().result()

    assert again.facts == calm.facts
    assert again.metrics == calm.metrics
    assert weights(tmp_path / "out") == weights(tmp_path / "calm")


def test_a_donor_that_training_would_wear_off_serves_as_it_is(
    store: KnowledgeStore, taught: tuple[RoundInput, Path], tmp_path: Path
) -> None:
    donor = donor_of(store, keep(store, taught), 0.9)
    few = new_market(rows=4)
    misleading = replace(few, item_ids=taught[0].item_ids, training=replace(few.training, first_learning_rate=0.1))
    choice = choose([donor], misleading, tmp_path, TrialConfig(plans=(Plan(epochs=0),)))

    assert choice.entry_id == donor.entry.entry_id
    whole, untouched = (
        next(trial.ndcg_10 for trial in choice.planned if (trial.entry_id, trial.epochs) == (choice.entry_id, epochs))
        for epochs in (misleading.training.first_epochs, 0)
    )
    assert untouched > whole
    assert choice.epochs == 0


def test_of_a_line_of_releases_only_the_newest_is_a_candidate() -> None:
    matches = [Match(entry_of(version, key), 1 - version / 10) for version, key in ((1, "a-1"), (2, "b-7"), (3, "a-9"))]

    found = newest_of_lines(matches)

    assert [match.entry.lineage.model_version for match in found] == [3, 2]


def test_what_is_saved_of_donors_is_read_again_and_a_refused_one_keeps_its_reason(tmp_path: Path) -> None:
    trunk, vectors = encode_tensors({}), encode_vectors(KeyedVectors(("mug",), np.ones((1, 2), np.float32)))
    fit = Donor(
        entry=entry_of(1, "a-1", trunk),
        similarity=0.5,
        trunk=trunk,
        items=entry_of(1, "a-1", vectors, kind="item_embeddings"),
        item_vectors=vectors,
    )
    unfit = Donor(entry=entry_of(2, "b-1"), similarity=0.25, refused="it is gone")
    save_donors(tmp_path / "donors", [fit, unfit])

    assert load_donors(tmp_path / "donors") == [fit, unfit]


def entry_of(version: int, round_key: str, content: bytes = b"", *, kind: Kind = "adapter") -> Entry:
    """An entry of some release."""
    lineage = Lineage(task="sequence", model_version=version, notes={"round": round_key})
    return describe(
        kind=kind,
        privacy="shop",
        lineage=lineage,
        worth={},
        sha256=sha256_of(content),
        size_bytes=len(content),
        created_at_ms=1,
    )
