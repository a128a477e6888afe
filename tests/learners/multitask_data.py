"""A shop with known chances: who likes an item clicks it, and only good items are bought."""

import numpy as np
import torch
from torch import Tensor

from learners.model import ModelConfig, SharedModel
from learners.multitask import MultiTaskConfig, MultiTaskModel, Visits

ITEMS, PLACES = 12, 4
SHAPE = ModelConfig(
    width=16, layers=1, heads=2, history_length=4, text_width=4, spare_rows=0, dropout=0.0, input_dropout=0.0
)
HEADS = MultiTaskConfig(
    expert_width=16, tower_width=16, places=PLACES, dropout=0.0, epochs=6, batch_visits=64, learning_rate=1e-2
)
TEXT = torch.from_numpy(np.random.default_rng(5).normal(size=(ITEMS + 1, 4)).astype(np.float32)) / 2
ACTIVE = torch.arange(ITEMS + 1) > 0


def true_chances(liked: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Chance of a click, and of a purchase after it, [V, K]: items come in three kinds, of which a person likes one."""
    fits = shown % 3 == liked[:, None]
    return torch.where(fits, 0.6, 0.1), torch.where(shown > ITEMS // 2, 0.7, 0.2)


def buyer_chance(liked: Tensor) -> Tensor:
    """Chance to buy anything at all, [V]: who likes the first kind nearly always does."""
    return torch.where(liked == 0, 0.8, 0.2)


def shop(visits: int, *, seed: int) -> tuple[Visits, Tensor, Tensor]:
    """Visits of people who have looked at two items of the kind they like, with their true chances."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, below: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    liked = draw(visits, below=3)
    histories = 3 * draw(visits, 2, below=ITEMS // 3) + liked[:, None]
    histories = torch.where(histories == 0, 3, histories)
    shown = 1 + draw(visits, PLACES, below=ITEMS)
    click, purchase = true_chances(liked, shown)
    clicked = torch.rand(shown.shape, generator=generator) < click
    bought = clicked & (torch.rand(shown.shape, generator=generator) < purchase)
    return (
        Visits(
            histories=torch.nn.functional.pad(histories, (0, 2)),
            lengths=torch.full((visits,), 2),
            shown=shown,
            clicked=clicked,
            carted=clicked,
            bought=bought,
            buyer=torch.rand(visits, generator=generator) < buyer_chance(liked),
            next_item=torch.where(liked == 0, 3, liked + 3 * draw(visits, below=ITEMS // 3)),
        ),
        click,
        purchase,
    )


def model(config: MultiTaskConfig = HEADS, *, seed: int = 0) -> MultiTaskModel:
    """Trunk and heads with fresh weights."""
    torch.manual_seed(seed)
    trunk = SharedModel(SHAPE, capacity=ITEMS + 1)
    trunk.admit(1, TEXT[1:])
    return MultiTaskModel(trunk, config)
