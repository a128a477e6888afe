"""A round on a CUDA device: bf16 autocast over fp32 weights learns what the CPU learns."""

import dataclasses
from pathlib import Path

import pytest
import torch

from learners.releases.release import load_release
from learners.rounds.round import run_round
from tests.contracts.test_strategies import TRAINS, material
from tests.learners.rounds_data import TRAINING, ring


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_round_on_the_gpu_learns_and_keeps_its_weights_in_full_precision(tmp_path: Path) -> None:
    given = ring(training=dataclasses.replace(TRAINING, device="cuda"))
    result = run_round(given, tmp_path)

    assert result.training["device"] == "cuda"
    assert result.metrics["newest_hit_rate_10"] > 0.9
    assert result.candidate is not None
    assert {value.dtype for value in load_release(result.candidate).model.state_dict().values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", TRAINS)
def test_every_strategy_learns_on_the_gpu(name: str, tmp_path: Path) -> None:
    if name == "lora":
        pytest.importorskip("peft", reason="the adapters extra is not installed")
    incumbent = None
    for label in ("first", "second"):
        (tmp_path / label).mkdir()
        given = material(name, incumbent=incumbent)
        on_gpu = dataclasses.replace(given, training=dataclasses.replace(given.training, device="cuda"))
        result = run_round(on_gpu, tmp_path / label)
        incumbent = result.candidate
    figures = result.verdict["evidence"]
    assert figures["candidate"]["newest"]["ndcg_10"] > figures["incumbent"]["newest"]["ndcg_10"] - 0.05
