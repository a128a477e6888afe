"""A log's purchases as the rows of a round, and as histories with what followed them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.knowledge_parts.log import Floats, Indexes, Log
from learners.model import ModelConfig
from learners.rounds.material import RoundConfig, RoundInput


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How every model of a benchmark is shaped and trained.

    Args:
        model: The network's shape.
        training: Of a market or shop.
        donor_training: Of the one that teaches.
    """

    model: ModelConfig
    training: RoundConfig
    donor_training: RoundConfig


def training_rows(log: Log, *, length: int) -> tuple[Indexes, npt.NDArray[np.bool_]]:
    """Return every person's purchases as rows; each purchase is the target of exactly one.

    A row carries up to half its length of targets, behind the history that led to them.

    Args:
        log: What to learn from.
        length: L.

    Returns:
        Tokens, left-padded, int32 [M, L+1], and which of `tokens[:, 1:]` are targets, bool [M, L].
    """
    stride = max(1, length // 2)
    rows, masks = [], []
    for bought in _by_person(log):
        for start in range(0, len(bought), stride):
            end = min(start + stride, len(bought))
            window = bought[max(0, end - length - 1) : end] if end > length else bought[:end]
            row, mask = np.zeros(length + 1, np.int32), np.zeros(length, np.bool_)
            row[length + 1 - len(window) :] = window
            mask[length - (end - start) :] = True
            rows.append(row)
            masks.append(mask)
    if not rows:
        return np.zeros((0, length + 1), np.int32), np.zeros((0, length), np.bool_)
    return np.stack(rows), np.stack(masks)


def cases(log: Log, start: int, end: int, *, length: int) -> tuple[Indexes, Indexes]:
    """Return the histories of purchases `start` to `end` (what the person bought before, learned from or not) and them.

    Returns:
        Left-padded histories, int32 [W, L], and targets, int32 [W].
    """
    histories, targets = np.zeros((end - start, length), np.int32), log.items[start:end]
    held: dict[int, list[int]] = {}
    for number, (user, item) in enumerate(zip(log.users[:end].tolist(), log.items[:end].tolist(), strict=True)):
        past = held.setdefault(user, [])
        if number >= start and past:
            newest = past[-length:]
            histories[number - start, length - len(newest) :] = newest
        past.append(item)
    return histories, targets.astype(np.int32)


def round_of(
    log: Log,
    *,
    learn: tuple[int, int],
    judge: tuple[int, int],
    vectors: Floats,
    setting: Setting,
    training: RoundConfig,
    seed: int,
    active: npt.NDArray[np.bool_] | None = None,
) -> RoundInput:
    """Return a round that learns from some purchases of a log and is judged on others.

    Args:
        log: One market's purchases, oldest first.
        learn: First purchase to learn from, and the one after the last.
        judge: The same of those to be judged on; their histories hold all that came before.
        vectors: Text vectors [N, T].
        setting: Shapes.
        training: How to train.
        seed: Source of every random choice.
        active: Items that are ranked, bool [N]; None: the whole catalogue.
    """
    length = setting.model.history_length
    order = np.arange(len(log))
    tokens, mask = training_rows(log.where((order >= learn[0]) & (order < learn[1])), length=length)
    histories, targets = cases(log, *judge, length=length)
    return RoundInput(
        tokens=tokens,
        loss_mask=mask,
        weight=np.ones(len(tokens), np.float32),
        replayed=np.zeros(len(tokens), np.bool_),
        newest_histories=histories,
        newest_targets=targets,
        frozen_histories=histories[:0],
        frozen_targets=targets[:0],
        item_ids=list(log.item_ids),
        text_vectors=vectors,
        active=np.arange(len(log.item_ids)) > 0 if active is None else active,
        model=setting.model,
        training=training,
        seed=seed,
        facts={"interactions": learn[1] - learn[0]},
    )


def _by_person(log: Log) -> list[Indexes]:
    order = np.argsort(log.users, kind="stable")
    users, items = log.users[order], log.items[order]
    return np.split(items, np.flatnonzero(np.diff(users)) + 1) if len(items) else []
