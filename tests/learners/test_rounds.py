"""A round learns what there is to learn, forgets little, is judged honestly, and leaves nothing half done."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.errors import DivergedError
from learners.model import SharedModel
from learners.releases.release import load_release, save_candidate
from learners.rounds.gate import GateConfig
from learners.rounds.losses import sample_columns
from learners.rounds.material import RoundInput
from learners.rounds.round import RoundResult, judge_releases, run_round
from tests.learners.rounds_data import SHAPE, TRAINING, ring, walks


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RoundResult:
    return run_round(ring(), tmp_path_factory.mktemp("first"))


def out(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_first_round_learns_the_ring_and_beats_popularity(first: RoundResult) -> None:
    assert first.outcome == "passed"
    assert first.metrics["newest_hit_rate_10"] > 0.9
    assert first.verdict["evidence"]["rival"] == "popularity"
    assert first.training["from_scratch"]
    assert first.training["last_loss"] < first.training["first_loss"]
    assert first.facts == {"interactions": 200}
    assert first.candidate is not None
    release = load_release(first.candidate)
    best = (release.encode_users([[4, 5, 6]]) @ release.item_matrix[1:].T).argmax() + 1
    assert best == 7


def test_the_result_on_disk_is_the_result(first: RoundResult) -> None:
    assert first.candidate is not None
    assert RoundResult.load(first.candidate.parent) == first


def test_the_same_input_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    short = dataclasses.replace(TRAINING, first_epochs=2)
    manifests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = run_round(dataclasses.replace(ring(training=short), seed=seed), out(tmp_path / name))
        assert result.candidate is not None
        manifests.append(json.loads((result.candidate / "manifest.json").read_bytes())["files"])
    assert manifests[0] == manifests[1] != manifests[2]


def test_a_round_from_scratch_and_one_that_goes_on_have_batches_of_their_own(
    first: RoundResult, tmp_path: Path
) -> None:
    sizes = dataclasses.replace(TRAINING, first_epochs=1, epochs=1, first_batch_rows=100, batch_rows=20)
    begun = run_round(ring(training=sizes), out(tmp_path / "a"))
    gone_on = run_round(ring(training=sizes, incumbent=first.candidate), out(tmp_path / "b"))
    assert (begun.training["steps"], gone_on.training["steps"]) == (2, 10)


def test_a_round_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run_round(ring(training=dataclasses.replace(TRAINING, first_epochs=1)), out(tmp_path / "a"))
    torch.testing.assert_close(torch.rand(1), expected)


def test_fine_tuning_learns_new_items_and_passes(first: RoundResult, tmp_path: Path) -> None:
    result = run_round(ring(items=60, seed=1, incumbent=first.candidate), out(tmp_path / "a"))

    assert result.outcome == "passed"
    assert not result.training["from_scratch"]
    evidence = result.verdict["evidence"]
    assert evidence["candidate"]["newest"]["ndcg_10"] > evidence["incumbent"]["newest"]["ndcg_10"]
    assert result.candidate is not None
    candidate = load_release(result.candidate)
    assert candidate.manifest["parent"] == 0
    assert len(candidate.item_ids) == 61
    assert candidate.model.capacity >= 61


def test_replay_with_distillation_keeps_what_fine_tuning_alone_forgets(first: RoundResult, tmp_path: Path) -> None:
    backwards = ring(step=-1, seed=2, incumbent=first.candidate)
    remembered = walks(200, items=40, seed=77)
    mask = np.concatenate([backwards.loss_mask, remembered[:, :-1] > 0])
    tokens = np.concatenate([backwards.tokens, remembered])
    replaying = dataclasses.replace(
        backwards,
        tokens=tokens,
        loss_mask=mask,
        weight=np.ones(400, np.float32),
        replayed=np.arange(400) >= 200,
    )
    old = ring().frozen_histories, ring().frozen_targets
    figures = {}
    for name, given in (("alone", backwards), ("replaying", replaying)):
        judged = dataclasses.replace(given, frozen_histories=old[0], frozen_targets=old[1])
        figures[name] = run_round(judged, out(tmp_path / name)).metrics["frozen_ndcg_10"]
    assert figures["replaying"] > figures["alone"] + 0.1


def test_forgetting_is_refused_by_the_gate(first: RoundResult, tmp_path: Path) -> None:
    old = ring()
    other_world = dataclasses.replace(
        ring(step=7, seed=2, incumbent=first.candidate),
        frozen_histories=old.frozen_histories,
        frozen_targets=old.frozen_targets,
        training=dataclasses.replace(TRAINING, learning_rate=1e-2, epochs=20),
    )
    result = run_round(other_world, out(tmp_path / "a"))
    assert result.outcome == "refused"
    assert result.verdict["reasons"][0].startswith("frozen: ndcg_10")
    assert result.candidate is not None  # kept for whoever wants to look


def judged(candidate: SharedModel, tmp_path: Path, incumbent: Path | None) -> RoundResult:
    """Judge weights as they are: a round whose training changes next to nothing."""
    with torch.no_grad():
        vectors = candidate.item_vectors(torch.from_numpy(ring().text_vectors), torch.arange(41))
    save_candidate(
        tmp_path / "start", model=candidate, item_matrix=vectors, item_ids=ring().item_ids, parent=None, facts={}
    )
    still = dataclasses.replace(TRAINING, learning_rate=1e-12, epochs=1, distillation=0.0, weight_decay=0.0)
    started = run_round(ring(training=still, incumbent=tmp_path / "start"), out(tmp_path / "still"))
    assert started.candidate is not None
    verdict = judge_releases(
        load_release(started.candidate), None if incumbent is None else load_release(incumbent), ring()
    )
    return dataclasses.replace(started, outcome="passed" if verdict.passed else "refused", verdict=verdict.as_dict())


@pytest.mark.parametrize(
    ("damage", "against_incumbent"),
    # where everything is equally popular, a shuffled model is as good as popularity: only an incumbent tells
    [("shuffled", True), ("constant", True), ("constant", False)],
)
def test_a_genuinely_worse_model_is_refused(
    first: RoundResult, tmp_path: Path, damage: str, against_incumbent: bool
) -> None:
    assert first.candidate is not None
    model = load_release(first.candidate).model
    with torch.no_grad():
        for parameter in model.parameters():
            if damage == "constant":
                parameter.zero_()
            else:
                flat = parameter.flatten()
                parameter.copy_(flat[torch.randperm(len(flat))].view_as(parameter))
    result = judged(model.requires_grad_(), tmp_path, first.candidate if against_incumbent else None)
    assert result.outcome == "refused", result.verdict


def test_weights_that_are_not_numbers_are_refused_before_anything_is_written(
    first: RoundResult, tmp_path: Path
) -> None:
    assert first.candidate is not None
    model = load_release(first.candidate).model
    with torch.no_grad():
        model.positions.weight[0] = float("nan")
    with pytest.raises(DivergedError, match="loss is nan at optimizer step 1"):
        judged(model, tmp_path, None)
    assert list((tmp_path / "still").iterdir()) == []


def test_a_loss_that_explodes_writes_nothing(tmp_path: Path) -> None:
    wild = dataclasses.replace(TRAINING, first_learning_rate=1e20, max_grad_norm=1e30, weight_decay=0.0)
    with pytest.raises(DivergedError):
        run_round(ring(training=wild), out(tmp_path / "a"))
    assert list((tmp_path / "a").iterdir()) == []


def test_an_empty_round_says_so(tmp_path: Path) -> None:
    nothing = dataclasses.replace(
        ring(),
        tokens=np.zeros((0, 11), np.int32),
        loss_mask=np.zeros((0, 10), np.bool_),
        weight=np.zeros(0, np.float32),
        replayed=np.zeros(0, np.bool_),
    )
    result = run_round(nothing, out(tmp_path / "a"))
    assert (result.outcome, result.candidate) == ("empty", None)
    assert RoundResult.load(tmp_path / "a") == result


def tiny(tokens: list[list[int]], items: int) -> RoundInput:
    rows = np.zeros((len(tokens), 11), np.int32)
    for row, walk in zip(rows, tokens, strict=True):
        row[11 - len(walk) :] = walk
    mask = rows[:, 1:] > 0
    nobody, nothing = np.zeros((0, 10), np.int32), np.zeros(0, np.int32)
    return dataclasses.replace(
        ring(items=items),
        tokens=rows,
        loss_mask=mask,
        weight=np.ones(len(rows), np.float32),
        replayed=np.zeros(len(rows), np.bool_),
        newest_histories=nobody,
        newest_targets=nothing,
        frozen_histories=nobody,
        frozen_targets=nothing,
        training=dataclasses.replace(TRAINING, first_epochs=2, epochs=2),
    )


@pytest.mark.parametrize(
    ("tokens", "items"),
    [([[1, 2, 3]], 3), ([[1]], 1), ([[1, 1, 1]], 1), ([[1], [2], [3]], 3)],
    ids=["one user", "one interaction", "one item", "one interaction each"],
)
def test_the_smallest_shops_get_a_first_release_that_says_how_little_it_rests_on(
    tmp_path: Path, tokens: list[list[int]], items: int
) -> None:
    result = run_round(tiny(tokens, items), out(tmp_path / "a"))
    assert result.outcome == "passed"
    assert result.verdict["reasons"] == ["too little evidence: 0 targets, 50 needed"]
    assert result.candidate is not None
    assert load_release(result.candidate).encode_users([[1], []]).shape == (2, 32)


def test_a_round_of_nothing_but_new_items_starts_from_the_incumbent(first: RoundResult, tmp_path: Path) -> None:
    items = 80  # 1..40 are old; people now walk among 41..80 only
    shifted = walks(200, items=40, seed=5)
    tokens = np.where(shifted > 0, shifted + 40, 0)
    newest = walks(120, items=40, seed=6)
    newest = np.where(newest > 0, newest + 40, 0)
    given = dataclasses.replace(
        ring(items=items, incumbent=first.candidate),
        tokens=tokens,
        newest_histories=newest[:, :-1],
        newest_targets=newest[:, -1],
        loss_mask=(tokens[:, :-1] > 0) & (tokens[:, 1:] > 0),
        gate=GateConfig(max_forgetting=1.0),
        training=dataclasses.replace(TRAINING, epochs=20),
    )
    result = run_round(given, out(tmp_path / "a"))
    assert result.metrics["newest_hit_rate_10"] > 0.8
    assert not result.training["from_scratch"]
    assert result.outcome == "passed"


def test_another_shape_starts_from_scratch_and_is_still_held_against_the_incumbent(
    first: RoundResult, tmp_path: Path
) -> None:
    wider = dataclasses.replace(SHAPE, width=48)
    result = run_round(ring(model=wider, incumbent=first.candidate, seed=3), out(tmp_path / "a"))
    assert result.training["from_scratch"]
    assert result.verdict["evidence"]["rival"] == "incumbent"


def test_delisted_items_neither_compete_nor_count(first: RoundResult, tmp_path: Path) -> None:
    assert first.candidate is not None
    active = np.arange(41) > 0
    active[20:] = False
    result = run_round(ring(active=active), out(tmp_path / "a"))
    assert result.candidate is not None
    assert result.outcome == "passed"


def test_a_catalogue_beyond_the_limit_learns_by_sampled_softmax(tmp_path: Path) -> None:
    sampling = dataclasses.replace(TRAINING, first_full_softmax_items=10, first_sampled_negatives=16)
    result = run_round(ring(training=sampling), out(tmp_path / "a"))
    assert result.metrics["newest_hit_rate_10"] > 0.8


def test_a_fine_tuning_round_samples_where_a_first_one_ranks_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def counted(*args: Any, **given: Any) -> Any:
        drawn.append(given["size"])
        return sample_columns(*args, **given)

    monkeypatch.setattr("learners.rounds.training.sample_columns", counted)
    both = dataclasses.replace(TRAINING, full_softmax_items=10, sampled_negatives=8, first_full_softmax_items=100)
    first = run_round(ring(training=both), out(tmp_path / "a"))
    assert not drawn
    later = run_round(ring(training=both, incumbent=first.candidate), out(tmp_path / "b"))
    assert set(drawn) == {8}
    assert later.metrics["newest_hit_rate_10"] > 0.8


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse"])
def test_every_learning_rate_schedule_learns(tmp_path: Path, schedule: str) -> None:
    result = run_round(
        ring(training=dataclasses.replace(TRAINING, schedule=schedule, first_epochs=8)), out(tmp_path / "a")
    )
    assert result.training["last_loss"] < 0.9 * result.training["first_loss"]


def test_an_input_survives_its_folder(tmp_path: Path) -> None:
    given = ring(incumbent=tmp_path / "somewhere")
    given.save(tmp_path / "in")
    back = RoundInput.load(tmp_path / "in")
    for name in ("tokens", "loss_mask", "weight", "replayed", "text_vectors", "active", "newest_targets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name))
    for name in ("item_ids", "model", "training", "gate", "seed", "incumbent", "facts"):
        assert getattr(back, name) == getattr(given, name)


def test_weights_broken_by_the_very_last_step_are_not_written_either(tmp_path: Path) -> None:
    one_step = dataclasses.replace(
        TRAINING,
        first_epochs=1,
        first_batch_rows=1_000,
        first_learning_rate=1e37,
        weight_decay=0.0,
        validation_share=0.0,
    )
    with pytest.raises(DivergedError, match="loss is nan at optimizer step 1"):
        run_round(ring(training=one_step), out(tmp_path / "a"))
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_training_stops_early_only_where_a_slice_is_kept_for_that(tmp_path: Path, share: float) -> None:
    noisy = dataclasses.replace(TRAINING, first_epochs=30, validation_share=share, patience=1, first_learning_rate=5e-2)
    chance = np.random.default_rng(0).integers(
        1, 41, size=(60, 11), dtype=np.int32
    )  # nothing to learn, much to memorise
    given = ring(rows=60, tokens=chance, loss_mask=np.ones((60, 10), np.bool_), training=noisy)
    result = run_round(given, out(tmp_path / "a"))
    assert (result.training["epochs"] == 30) is (share == 0)
    assert result.training["best_epoch"] <= result.training["epochs"]
