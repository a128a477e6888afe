"""The heads on a GPU: the same code, and answers as on the CPU. Skipped, loudly, where there is no GPU."""

import numpy as np
import pytest
import torch

from learners.multitask import MultiTaskTrainer, Predictor
from tests.learners.multitask_data import ACTIVE, HEADS, TEXT, model, shop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def trained(device: str) -> Predictor:
    heads = model(HEADS).to(device)
    text, active = TEXT.to(device), ACTIVE.to(device)
    MultiTaskTrainer(heads, text_vectors=text, active=active, seed=0).train(shop(3_000, seed=0)[0])
    return Predictor(model=heads, text_vectors=text, active=active)


def test_heads_trained_on_a_gpu_answer_as_those_trained_on_a_cpu() -> None:
    visits, click, _ = shop(500, seed=2)
    chances = {device: trained(device).chances(visits) for device in ("cpu", "cuda")}
    assert np.abs(chances["cuda"].click - chances["cpu"].click).mean() < 0.03
    assert np.abs(chances["cuda"].click - click.numpy()).mean() < 0.05
