from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.ader import DIGINETICA
from benchmarks.sessions.data import Periods, questions, read
from benchmarks.sessions.published import read_published
from benchmarks.sessions.run import Run, RunConfig

pytestmark = pytest.mark.skipif(not DIGINETICA.exists(), reason="DIGINETICA is not beside the checkout")


@pytest.fixture(scope="module")
def periods() -> Periods:
    return read(DIGINETICA)


def test_diginetica_is_as_the_data_page_describes_it(periods: Periods) -> None:
    assert len(periods) == 17
    assert sum(len(sessions.items) for sessions in periods.sessions) == 993_483
    assert periods.known[-1] == 43_136
    assert len(questions(periods.test(1), history_length=1)) == 23_105


def test_there_are_five_published_curves_of_sixteen_updates_for_each_measure() -> None:
    curves = read_published(DIGINETICA)
    assert len(curves) == 10
    assert all(len(curve.values) == 16 for curve in curves)
    ader = next(curve for curve in curves if curve.method == "ADER" and curve.measure == "recall_20")
    assert sum(ader.values) / 16 == pytest.approx(50.21, abs=0.01)


@pytest.mark.benchmark
def test_the_fast_memory_alone_is_above_ader_on_the_first_updates(periods: Periods, tmp_path: Path) -> None:
    config = replace(RunConfig(), with_model=False)
    run = Run(periods, config, seed=0, folder=tmp_path, device=torch.device("cpu"), say=print)
    for found, published in zip(run.updates(2), (49.45, 50.80), strict=True):
        assert found["fast_memory"]["recall_20"] > published + 3
