"""Calibration with known answers."""

import numpy as np
import pytest

from learners.multitask import Calibration, expected_calibration_error


def planted(slope: float, shift: float, *, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, count)
    return logits, rng.random(count) < 1 / (1 + np.exp(-(slope * logits + shift)))


def test_platt_finds_the_planted_line_and_temperature_its_slope() -> None:
    logits, outcomes = planted(0.4, -1.5)
    found = Calibration.platt(logits, outcomes)
    assert abs(found.slope - 0.4) < 0.02
    assert abs(found.shift + 1.5) < 0.03
    logits, outcomes = planted(0.4, 0.0)
    found = Calibration.temperature(logits, outcomes)
    assert abs(found.slope - 0.4) < 0.02
    assert found.shift == 0


def test_calibration_mends_overconfidence() -> None:
    logits, outcomes = planted(0.4, -1.5)
    before = expected_calibration_error(Calibration().chances(logits), outcomes)
    after = expected_calibration_error(Calibration.platt(logits, outcomes).chances(logits), outcomes)
    assert before > 0.2
    assert after < 0.01


def test_the_error_is_the_mean_distance_in_bins_of_equally_many() -> None:
    chances = np.array([0.1, 0.1, 0.1, 0.9, 0.9, 0.9])
    outcomes = np.array([0, 0, 1, 1, 1, 0], dtype=bool)
    assert expected_calibration_error(chances, outcomes, bins=2) == pytest.approx(abs(1 / 3 - 0.1))
    assert expected_calibration_error(chances, outcomes, bins=1) == pytest.approx(0)
    assert expected_calibration_error(chances, chances) == 0  # against the truth itself


def test_rare_events_are_not_hidden_in_one_bin() -> None:
    # Said: .005 of half of them and .015 of the others, while .02 and 0 happen: right on average, wrong everywhere.
    chances = np.repeat([0.005, 0.015], 10_000)
    outcomes = np.concatenate([np.arange(10_000) % 50 == 0, np.zeros(10_000, dtype=bool)])
    assert expected_calibration_error(chances, outcomes) == pytest.approx(0.015)


@pytest.mark.parametrize("outcome", [True, False])
def test_one_kind_of_outcome_gives_a_finite_fit(outcome: bool) -> None:
    found = Calibration.platt(np.linspace(-1, 1, 50), np.full(50, outcome))
    chances = found.chances(np.linspace(-1, 1, 50))
    assert np.isfinite([found.slope, found.shift]).all()
    assert abs(chances.mean() - outcome) < 0.01


def test_nothing_held_out_changes_nothing_and_nothing_to_judge_is_refused() -> None:
    nothing = np.zeros(0)
    assert Calibration.platt(nothing, nothing.astype(bool)) == Calibration()
    with pytest.raises(ValueError, match="empty"):
        expected_calibration_error(nothing, nothing)
