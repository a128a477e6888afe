"""The shadow: the predecessor comes back if it is better on the same interactions, and only then."""

import pytest

from learners.quality.shadow import PairedShadow, ShadowConfig


def shadow(pairs: list[tuple[float, float]], *, alarmed: bool = False) -> PairedShadow:
    """Successor's and predecessor's gains, interaction by interaction."""
    compared = PairedShadow(predecessor=7, config=ShadowConfig(least=100, interactions=1_000))
    for successor, predecessor in pairs:
        compared.add(successor=successor, predecessor=predecessor)
    if alarmed:
        compared.alarm()
    return compared


WORSE = [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)] * 100
SLIGHTLY_WORSE = [(0.0, 1.0)] * 35 + [(1.0, 0.0)] * 18 + [(0.0, 0.0)] * 147
BOTH_HURT = [(0.0, 0.0)] * 396 + [(1.0, 0.0), (0.0, 1.0)] * 2
BETTER = [(1.0, 0.0), (0.0, 0.0)] * 200


def test_a_clearly_better_predecessor_comes_back() -> None:
    verdict = shadow(WORSE).verdict()
    assert verdict is not None
    assert verdict.version == 7
    assert verdict.evidence["predecessor"] == pytest.approx(0.5)


@pytest.mark.parametrize("alarmed", [False, True])
@pytest.mark.parametrize("pairs", [BOTH_HURT, BETTER, WORSE[:99]], ids=["both hurt", "better", "too few pairs"])
def test_otherwise_the_successor_stays_even_when_there_is_drift(
    pairs: list[tuple[float, float]], alarmed: bool
) -> None:
    assert shadow(pairs, alarmed=alarmed).verdict() is None


def test_an_alarm_makes_a_smaller_advantage_enough() -> None:
    assert shadow(SLIGHTLY_WORSE).verdict() is None
    verdict = shadow(SLIGHTLY_WORSE, alarmed=True).verdict()
    assert verdict is not None
    assert "drift alarm" in verdict.reason


def test_a_restored_shadow_decides_alike() -> None:
    first = shadow(WORSE[:200])
    second = PairedShadow(predecessor=0, config=first.config)
    second.set_state(first.get_state())
    assert second.verdict() == first.verdict()
    assert not second.over
