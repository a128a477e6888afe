"""Warm start: a newcomer's row begins where the rows of its kin stand, and nobody else's moves."""

import numpy as np
import pytest
import torch

from learners.model import ModelConfig, SharedModel
from learners.rounds.warm_start import LEARNED_ENOUGH, warm_start

WIDTH, TEXTS = 4, 3
ITEMS = 7  # padding, three learned, one half-learned, two newcomers


def model() -> SharedModel:
    one = SharedModel(ModelConfig(width=WIDTH, heads=1, layers=1, text_width=TEXTS, spare_rows=0), capacity=ITEMS)
    with torch.no_grad():
        one.id_embedding.weight.copy_(torch.arange(one.id_embedding.weight.numel()).view_as(one.id_embedding.weight))
        one.id_embedding.weight[0] = 0
    return one


def texts() -> torch.Tensor:
    vectors = torch.zeros(ITEMS, TEXTS)
    for item, direction in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 0)):  # 6 has no text
        vectors[item, direction] = 1
    return vectors


LEARNED = torch.tensor([0, 9, 9, 9, LEARNED_ENOUGH - 1, 0, 0])


def test_a_newcomer_starts_near_the_learned_item_with_the_same_text() -> None:
    one = model()
    before = one.id_embedding.weight.detach().clone()
    assert warm_start(one, learned=LEARNED, text_vectors=texts()) == 1
    after = one.id_embedding.weight
    closest = (after[5] - before[[1, 2, 3]]).norm(dim=1).argmin()
    assert closest == 0
    unmoved = [item for item in range(len(after)) if item != 5]
    assert torch.equal(after[unmoved], before[unmoved])


def test_links_of_fast_memory_speak_for_an_item_without_text_and_half_for_one_with() -> None:
    one, described = model(), model()
    before = one.id_embedding.weight.detach().clone()
    warm_start(described, learned=LEARNED, text_vectors=texts())
    neighbours = torch.tensor([[0, 0], [2, 4], [2, 3]])  # of items 0, 5 and 6; 4 has too little to teach
    strengths = torch.tensor([[0.0, 0.0], [1.0, 8.0], [3.0, 1.0]])
    assert warm_start(one, learned=LEARNED, text_vectors=texts(), neighbours=neighbours, strengths=strengths) == 2
    rows = one.id_embedding.weight
    assert rows[6].tolist() == pytest.approx((0.75 * before[2] + 0.25 * before[3]).tolist())
    assert rows[5].tolist() == pytest.approx(((described.id_embedding.weight[5] + before[2]) / 2).tolist())


@pytest.mark.parametrize("learned", [torch.zeros(ITEMS), torch.full((ITEMS,), 9.0)])
def test_without_anybody_to_teach_or_to_be_taught_nothing_moves(learned: torch.Tensor) -> None:
    one = model()
    before = one.id_embedding.weight.detach().clone()
    assert warm_start(one, learned=learned, text_vectors=texts()) == 0
    assert torch.equal(one.id_embedding.weight, before)


def test_items_beyond_the_capacity_share_rows_and_are_left_alone() -> None:
    one = model()
    more = ITEMS + 3
    learned = torch.cat([LEARNED, torch.zeros(3, dtype=torch.int64)])
    vectors = torch.from_numpy(np.vstack([texts().numpy(), np.eye(3, dtype=np.float32)]))
    shared = one.id_embedding.weight[ITEMS:].detach().clone()
    warm_start(one, learned=learned, text_vectors=vectors)
    assert len(learned) == more
    assert torch.equal(one.id_embedding.weight[ITEMS:], shared)
