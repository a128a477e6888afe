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


def test_beta_finds_a_planted_bend_that_a_line_misses() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    true = Calibration(slope=0.2, bend=1.0, shift=-2.0).chances(logits)
    outcomes = rng.random(len(logits)) < true
    found = Calibration.beta(logits, outcomes)
    assert [found.slope, found.bend, found.shift] == pytest.approx([0.2, 1.0, -2.0], abs=0.06)
    assert expected_calibration_error(Calibration.platt(logits, outcomes).chances(logits), true) > 0.02
    assert expected_calibration_error(found.chances(logits), true) < 0.005


def test_beta_is_platts_line_where_nothing_bends() -> None:
    logits, outcomes = planted(0.4, -1.5)
    found = Calibration.beta(logits, outcomes)
    line = Calibration.platt(logits, outcomes)
    np.testing.assert_allclose(found.chances(logits), line.chances(logits), atol=0.01)


@pytest.mark.parametrize("rising", [True, False])
def test_beta_never_gives_less_to_what_was_said_to_be_likelier(rising: bool) -> None:
    # Likely in the middle alone: one of both ends would have to fall.
    logits = np.repeat([-3.0, 0.0, 3.0], 1_000)
    shares = [50, 500, 400] if rising else [400, 500, 50]
    outcomes = np.tile(np.arange(1_000), 3) < np.repeat(shares, 1_000)
    found = Calibration.beta(logits, outcomes)
    steps = np.diff(found.chances(np.linspace(-4, 4, 50)))
    assert (steps >= -1e-12).all() if rising else (steps <= 1e-12).all()


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
    for fit in (Calibration.platt, Calibration.beta):
        found = fit(np.linspace(-1, 1, 50), np.full(50, outcome))
        chances = found.chances(np.linspace(-1, 1, 50))
        assert np.isfinite([found.slope, found.shift, found.bend]).all()
        assert abs(chances.mean() - outcome) < 0.01


def test_nothing_held_out_changes_nothing_and_nothing_to_judge_is_refused() -> None:
    nothing = np.zeros(0)
    assert Calibration.platt(nothing, nothing.astype(bool)) == Calibration()
    assert Calibration.beta(nothing, nothing.astype(bool)) == Calibration()
    with pytest.raises(ValueError, match="empty"):
        expected_calibration_error(nothing, nothing)
