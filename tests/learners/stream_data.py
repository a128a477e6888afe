"""A small shop's stream with a known rhythm, and a learner small enough to be tested many times."""

import torch

from learners.interactions import Observation
from learners.items.catalog import Catalog
from learners.learner import Learner, LearnerConfig
from learners.model import ModelConfig, SharedModel
from learners.quality.drift import DriftConfig
from learners.releases.release import LoadedRelease
from learners.rounds.triggers import TriggerConfig

ITEMS, USERS = 40, 23
SHAPE = ModelConfig(width=16, layers=1, heads=2, history_length=10, text_width=8, spare_rows=8)
CONFIG = LearnerConfig(
    model=SHAPE,
    trigger=TriggerConfig(interactions=300, drift_interactions=100),
    drift=DriftConfig(report_every=200, block=4, warm_up=10, cooldown=100),
    history_length=12,
    replay_capacity=96,
    replay_rows=20,
    replay_from=1,
    newest_window=60,
    frozen_cases=30,
    metrics_window=100,
)
START_MS = 1_300_000_000_000


def item_id(number: int) -> str:
    """The id of the item with this number, from 1."""
    return f"item-{number}"


def stream(count: int, *, start: int = 0) -> list[Observation]:
    """People walk the ring of items in steps that depend on who they are; some return things, some events are late."""
    events = []
    for step in range(start, start + count):
        user = step * 7 % USERS
        visit = step // USERS
        late = step % 41 == 40
        events.append(
            Observation(
                user_id=f"user-{user}",
                item_id=item_id((user * 3 + visit * (1 + user % 2)) % ITEMS + 1),
                event_type=("view", "click", "return", "purchase", "wish")[step % 5],
                event_time_ms=START_MS + step * 60_000 - (7_200_000 if late else 0),
                late=late,
                price=float(user),
            )
        )
    return events


def catalog(*, items: int = ITEMS - 3) -> Catalog:
    """All items but the last three, which nobody has listed."""
    listed = Catalog()
    for number in range(1, items + 1):
        listed.upsert(item_id(number), title=f"Thing {number}")
    return listed


def learner(seed: int = 5) -> Learner:
    """A fresh learner of the small shop."""
    return Learner(catalog=catalog(), config=CONFIG, seed=seed)


def release(version: int) -> LoadedRelease:
    """A model with random weights, the same for the same version, that knows most items."""
    torch.manual_seed(version)
    vectors = torch.randn(ITEMS - 5, SHAPE.width)
    vectors[0] = 0
    ids = ["", *(item_id(number) for number in range(1, ITEMS - 5))]
    return LoadedRelease(
        version=version, item_ids=ids, model=SharedModel(SHAPE, capacity=64), item_matrix=vectors, manifest={}
    )
