"""A market as a first round: its events, oldest first, and its catalogue, without a stream."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from learners.histories import Histories
from learners.interactions import Interaction, code_of, is_target
from learners.items.catalog import Catalog
from learners.learner_config import LearnerConfig
from learners.replay.pending import Pending
from learners.rounds.material import RoundInput

HELD_OUT = 0.2  # share of a market's targets that judge, at most the gate's window


def market_round(
    events: Iterable[Interaction],
    catalog: Catalog,
    *,
    text_vectors: npt.NDArray[np.float32],
    config: LearnerConfig,
    seed: int = 0,
) -> RoundInput:
    """Return the first round of a market: its newest targets are held out to judge, everything before is learned.

    Args:
        events: Oldest first; late ones are learned from, and are in nobody's history.
        catalog: Has the items; those that only events name are admitted, and nothing describes them.
        text_vectors: What describes the catalogue as it was before that, [n, `config.model.described_width`].
        config: As the learner's.
        seed: Source of every random choice.
    """
    events = list(events)
    targets = sum(is_target(event.event_type) for event in events)
    length = config.model.history_length
    pending = Pending(
        length=length,
        newest=min(config.newest_window, max(1, round(HELD_OUT * targets))),
        frozen=0,
        most=config.most_pending,
        rng=np.random.default_rng(seed),
    )
    histories = Histories(length=config.history_length, max_users=config.max_users)
    for number, event in enumerate(events, start=1):
        item_index = catalog.admit(event.item_id)
        if is_target(event.event_type):
            before = histories.past(event.user_id).items.tolist()
            pending.add(event.user_id, before, item_index, time_ms=event.event_time_ms, arrival=number)
        if not event.late:
            histories.append(event.user_id, item_index, event.event_time_ms, code_of(event.event_type))
    tokens, mask = pending.take()
    newest_histories, newest_targets = pending.newest()
    vectors = np.zeros((len(catalog), config.model.described_width), np.float32)
    vectors[: len(text_vectors)] = text_vectors
    return RoundInput(
        tokens=tokens,
        loss_mask=mask,
        weight=np.ones(len(tokens), np.float32),
        replayed=np.zeros(len(tokens), np.bool_),
        newest_histories=newest_histories,
        newest_targets=newest_targets,
        frozen_histories=newest_histories[:0],
        frozen_targets=newest_targets[:0],
        item_ids=list(catalog.item_ids),
        text_vectors=vectors,
        active=catalog.active.copy(),
        model=config.model,
        training=config.training,
        gate=config.gate,
        seed=seed,
        facts={"trigger": "market", "interactions": targets},
    )
