"""The gate lets better models through and keeps worse ones out, each with its reason."""

import numpy as np
import pytest

from learners.errors import InvalidModelConfigError
from learners.rounds.gate import GateConfig, Ranks, Verdict, judge

CONFIG = GateConfig()


def ranks(hit_share: float, *, count: int = 1_000, seed: int = 0) -> Ranks:
    """Targets of which a share is ranked second, the rest far down."""
    hits = np.random.default_rng(seed).random(count) < hit_share
    return Ranks(np.where(hits, 2, 900))


def verdict(candidate: Ranks, incumbent: Ranks | None, *, frozen: tuple[Ranks, Ranks] | None = None) -> Verdict:
    popularity = {"newest": ranks(0.05, count=len(candidate)), "frozen": ranks(0.05)}
    old = {} if frozen is None else {"frozen": frozen[0]}
    older = {} if frozen is None else {"frozen": frozen[1]}
    return judge(
        {"newest": candidate, **old},
        None if incumbent is None else {"newest": incumbent, **older},
        popularity=popularity,
        config=CONFIG,
    )


def test_a_better_model_passes_and_the_figures_are_kept() -> None:
    decided = verdict(ranks(0.25), ranks(0.20))
    assert decided.passed
    assert decided.evidence["candidate"]["newest"]["hit_rate_10"] == pytest.approx(0.25, abs=0.03)
    assert decided.evidence["incumbent"]["newest"]["hit_rate_10"] == pytest.approx(0.20, abs=0.03)
    assert decided.as_dict()["reasons"] == ["no regression against the incumbent"]


def test_an_equal_model_passes() -> None:
    assert verdict(ranks(0.2), ranks(0.2)).passed


def test_a_clearly_worse_model_is_refused() -> None:
    decided = verdict(ranks(0.15), ranks(0.20))
    assert not decided.passed
    assert "newest: ndcg_10" in decided.reasons[0]


def test_noise_on_a_small_window_does_not_refuse_an_equally_good_model() -> None:
    passed = sum(verdict(ranks(0.2, count=100, seed=s), ranks(0.2, count=100, seed=99 + s)).passed for s in range(50))
    assert passed >= 40


def test_a_model_that_forgot_the_past_is_refused_however_good_on_the_present() -> None:
    decided = verdict(ranks(0.4), ranks(0.2), frozen=(ranks(0.1), ranks(0.2)))
    assert not decided.passed
    assert [reason.split(":")[0] for reason in decided.reasons] == ["frozen"]


def test_scores_that_are_not_numbers_are_refused_even_without_a_rival() -> None:
    decided = verdict(Ranks(np.ones(1_000, np.int64), finite=False), None)
    assert not decided.passed
    assert decided.reasons == ("newest: scores are not finite",)


def test_a_first_model_must_reach_a_share_of_popularity() -> None:
    assert verdict(ranks(0.05), None).passed
    assert not verdict(ranks(0.005), None).passed


def test_a_model_that_never_hits_is_refused_even_if_noise_would_forgive_it() -> None:
    nothing, little = Ranks(np.full(60, 900)), Ranks(np.array([1] + [900] * 59))
    assert not verdict(nothing, little).passed


def test_without_evidence_a_first_model_serves_and_a_later_one_does_not() -> None:
    few = Ranks(np.array([1, 2]))
    first, later = verdict(few, None), verdict(few, few)
    assert (first.passed, later.passed) == (True, False)
    assert first.reasons == later.reasons == ("too little evidence: 2 targets, 50 needed",)


def test_an_empty_window_is_passed_over() -> None:
    nobody = Ranks(np.zeros(0, np.int64))
    assert verdict(ranks(0.2), ranks(0.2), frozen=(nobody, nobody)).passed


@pytest.mark.parametrize(
    ("name", "value"), [("max_regression", 1.5), ("noise", -1.0), ("max_forgetting", float("nan"))]
)
def test_thresholds_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidModelConfigError, match=name):
        GateConfig(**{name: value})  # type: ignore[arg-type]
