"""Kept answers teach a model of another width what the old network knew, and name nobody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.knowledge.accumulation import Accumulation, target_counts
from learners.knowledge.archive import export_archive
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import encode_tensors
from learners.knowledge.entry import Kind
from learners.knowledge.errors import InvalidEntryError
from learners.knowledge.keys import load_signing_key
from learners.knowledge.teacher_logits import TeacherLogits, decode_logits, encode_logits, learn_logits, said_by
from learners.model import SharedModel
from learners.releases.registry import ReleaseRecord
from learners.releases.release import LoadedRelease, load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round
from tests.learners.knowledge_data import open_store, write_keys
from tests.learners.rounds_data import SHAPE, ring

NARROW = replace(SHAPE, width=16)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LoadedRelease:
    result = run_round(ring(), tmp_path_factory.mktemp("teacher"))
    assert result.candidate is not None
    return load_release(result.candidate)


@pytest.fixture(scope="module")
def said(teacher: LoadedRelease) -> TeacherLogits:
    found = said_by(teacher, target_counts(ring()), ring().active)
    assert found is not None
    return decode_logits(encode_logits(found))  # from here on only bytes are left of the teacher


def right(model: SharedModel, round_input: RoundInput) -> float:
    """Return the share of held-out walks whose next item the model has first."""
    texts = torch.from_numpy(round_input.text_vectors)
    with torch.no_grad():
        items = model.eval().item_vectors(texts, torch.arange(len(texts)))
    items[0] = 0
    release = LoadedRelease(version=0, item_ids=round_input.item_ids, model=model, item_matrix=items, manifest={})
    histories = [row[row > 0] for row in round_input.newest_histories]
    scores = release.encode_users(histories) @ release.item_matrix[1:].T
    return float((scores.argmax(axis=1) + 1 == round_input.newest_targets).mean())


def student(seed: int = 3) -> SharedModel:
    torch.manual_seed(seed)
    return SharedModel(NARROW, capacity=64)


def test_answers_are_distributions_over_the_models_own_histories(said: TeacherLogits, teacher: LoadedRelease) -> None:
    assert said.histories.shape == (40 * 8, 8)
    assert set(said.item_ids) == set(teacher.item_ids[1:])
    total = np.exp(said.log_probabilities.astype(np.float64)).sum(axis=1) + said.remaining
    assert np.allclose(total, 1.0, atol=1e-5)
    assert (np.diff(said.log_probabilities, axis=1) <= 0).all()
    first = [said.item_ids[row[0] - 1] for row in said.histories[:40]]
    assert sorted(first) == sorted(teacher.item_ids[1:])
    few = said_by(teacher, target_counts(ring()), ring().active, k=5)
    assert few is not None
    assert few.top.shape == (320, 5)
    assert few.remaining.max() > 0


def test_a_model_of_another_width_learns_from_them_without_the_old_network(said: TeacherLogits) -> None:
    round_input, pupil = ring(), student()
    before = right(pupil, round_input)

    losses = learn_logits(pupil, said, item_ids=list(round_input.item_ids), text_vectors=round_input.text_vectors)

    assert losses[-1] < losses[0] / 2
    assert before < 0.2
    assert right(pupil, round_input) > 0.8


def test_a_model_that_knows_half_of_the_items_learns_what_concerns_them(said: TeacherLogits) -> None:
    half = ring(items=20)
    pupil = student()

    learn_logits(pupil, said, item_ids=list(half.item_ids), text_vectors=ring().text_vectors[:21])

    walk = replace(half, text_vectors=ring().text_vectors[:21])
    inside = walk.newest_targets > walk.newest_histories[:, -1]  # of 40 items the last of the 20 has another successor
    walk = replace(walk, newest_histories=walk.newest_histories[inside], newest_targets=walk.newest_targets[inside])
    assert right(pupil, walk) > 0.7


def test_a_model_that_knows_none_of_the_items_is_told_so(said: TeacherLogits) -> None:
    with pytest.raises(InvalidEntryError, match="some that the student knows"):
        learn_logits(student(), said, item_ids=["", "other"], text_vectors=ring().text_vectors[:2])


def test_what_contradicts_itself_is_refused(said: TeacherLogits) -> None:
    with pytest.raises(InvalidEntryError, match="as many answers as histories"):
        decode_logits(encode_logits(replace(said, histories=said.histories[:3])))
    with pytest.raises(InvalidEntryError, match="of known items"):
        decode_logits(encode_logits(replace(said, item_ids=said.item_ids[:3])))
    with pytest.raises(InvalidEntryError, match="expected tensors histories"):
        decode_logits(encode_tensors({"head.weight": torch.ones(2)}))


def test_a_release_that_learned_nothing_says_nothing(teacher: LoadedRelease) -> None:
    assert said_by(teacher, np.zeros(41, dtype=np.int64), ring().active) is None


def test_a_released_round_leaves_its_answers_once_with_lineage_and_they_may_leave(
    knowledge_url: str, tmp_path: Path, teacher: LoadedRelease
) -> None:
    store = open_store(knowledge_url, tmp_path / "artifacts")
    kinds: frozenset[Kind] = frozenset({"adapter", "teacher_logits"})
    accumulation = Accumulation(store, collection=CollectionConfig(max_bytes=10**9), kinds=kinds)

    def keep(version: int) -> dict[str, str]:
        record = ReleaseRecord(
            model="shared_model",
            version=version,
            sequence=version,
            kind="release",
            uri="file:///nowhere",
            sha256="",
            parent=version - 1 or None,
            offsets={"0": 100},
            metrics={"newest_ndcg_10": 0.5},
            verdict={},
            triggered_at_ms=1,
            released_at_ms=2,
        )
        kept = accumulation.keep(record, teacher, ring(), round_key=f"a-{version}")
        return {entry.kind: entry.entry_id for entry in kept.entries}

    first = keep(1)
    assert keep(1) == first
    second = keep(2)

    (older, newer) = sorted(store.entries(kind="teacher_logits"), key=lambda entry: entry.lineage.model_version or 0)
    assert (older.entry_id, newer.entry_id) == (first["teacher_logits"], second["teacher_logits"])
    assert newer.lineage.parents == (older.entry_id,)
    assert (older.privacy, older.worth) == ("shop", {"newest_ndcg_10": 0.5})
    assert decode_logits(store.read(older.entry_id)).top.shape == (320, 40)
    key = load_signing_key(write_keys(tmp_path, "shop")[0])
    export_archive(store, tmp_path / "k.tar", entry_ids=[older.entry_id], key=key, shop=True)
    assert (tmp_path / "k.tar").exists()
