"""A shop that begins to show pictures to its model, and one that stops: rounds and releases of either kind in a row."""

import dataclasses
from pathlib import Path

import numpy as np

from learners.releases.release import load_release
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round
from tests.learners.rounds_data import SHAPE, TRAINING, ring

WITH_PICTURES = dataclasses.replace(SHAPE, image_width=6, attribute_width=4)
QUICK = {
    "training": dataclasses.replace(TRAINING, epochs=1, first_epochs=2),
    "gate": GateConfig(popularity_floor=0.0, max_regression=1.0, max_forgetting=1.0),
}


def described(items: int, **changes: object) -> RoundInput:
    rng = np.random.default_rng(9)
    rows = rng.normal(size=(items + 1, WITH_PICTURES.described_width)).astype(np.float32) / 8**0.5
    rows[items // 2 :, 8:14] = 0  # half of them have no picture
    rows[:, 8:14] *= 100
    return ring(items=items, model=WITH_PICTURES, text_vectors=rows, **QUICK | changes)


def learned(round_input: RoundInput, folder: Path) -> Path:
    folder.mkdir()
    result = run_round(round_input, folder)
    assert result.outcome == "passed", result.verdict["reasons"]
    assert result.candidate is not None
    assert np.isfinite(load_release(result.candidate).item_matrix).all()
    return result.candidate


def test_pictures_may_be_turned_on_and_off_between_rounds_and_old_releases_are_judged_by_what_they_know(
    tmp_path: Path,
) -> None:
    without = learned(ring(**QUICK), tmp_path / "a")
    on = learned(described(44, incumbent=without, seed=1), tmp_path / "b")  # four items that `without` never saw
    release = load_release(on)
    assert release.manifest["facts"]["training"]["from_scratch"]
    assert release.model.config == WITH_PICTURES
    seen = release.model.state_dict()["scale.seen"]
    assert int(seen) == 22
    again = learned(described(44, incumbent=on, seed=2, learned=np.full(45, 9, np.int32)), tmp_path / "c")
    assert not load_release(again).manifest["facts"]["training"]["from_scratch"]
    assert load_release(again).model.state_dict()["scale.seen"] == seen
    off = learned(ring(items=46, incumbent=again, seed=3, **QUICK), tmp_path / "d")
    assert load_release(off).model.config == SHAPE
