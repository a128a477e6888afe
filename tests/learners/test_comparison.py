"""Strategies on one log: repeatable, paired, and complete in what is reported."""

from dataclasses import replace
from pathlib import Path

import pytest

from learners.errors import UnknownStrategyError
from learners.evaluation.comparison import Comparison
from learners.items.encoder import HashEncoder
from learners.items.shelf import Describers, shelf_of
from learners.rounds.material import RoundConfig
from tests.learners.stream_data import CONFIG, ITEMS, item_id, stream

LISTED = shelf_of(
    [{"item_id": item_id(number), "title": f"Thing {number}"} for number in range(1, ITEMS + 1)],
    Describers(texts=HashEncoder(width=8)),
)
QUICK = replace(CONFIG, training=RoundConfig(epochs=1, first_epochs=2))


def compared(folder: Path, *strategies: str) -> Comparison:
    comparison = Comparison(LISTED, config=QUICK, seed=2, folder=folder)
    for strategy in strategies:
        comparison.add(strategy, stream(900))
    return comparison


def test_a_further_strategy_is_compared_with_the_first_person_by_person(tmp_path: Path) -> None:
    reports = compared(tmp_path, "default", "retrain", "none").reports
    first, retrain, none = reports.values()
    assert first["against_first"] is None
    for report in reports.values():
        figures = report["metrics"]
        for name in ("hit_rate_10", "ndcg_10", "mrr"):
            assert figures[name]["value"] == pytest.approx(report["quality"]["mixture"][name])
            assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
        assert 0 < figures["coverage"]["value"] <= 1
    apart = none["against_first"]["ndcg_10"]
    assert apart["value"] == pytest.approx(none["metrics"]["ndcg_10"]["value"] - first["metrics"]["ndcg_10"]["value"])
    for report in (first, retrain):
        assert report["cost"]["steps"] == sum(gate["training"]["steps"] for gate in report["gates"]) > 0
        assert report["cost"]["round_cpu_s"] > 0
        releases = report["releases"]
        assert [len(row) for row in report["transfer"]["matrix"]] == [releases + 1] * releases
    assert none["transfer"] is None
    assert none["cost"] == {"round_cpu_s": 0, "steps": 0}


def test_one_seed_gives_one_answer(tmp_path: Path) -> None:
    first, second = (compared(tmp_path / name, "default").reports["default"] for name in "ab")
    assert first["metrics"] == second["metrics"]
    assert first["transfer"] == second["transfer"]


def test_an_unknown_strategy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownStrategyError, match="'magic'"):
        compared(tmp_path, "magic")
