"""`alluvium knowledge privatize`: a trunk that may leave, learned from a log with differential privacy."""

from pathlib import Path

import numpy as np
from rich.console import Console

from infra.composition import knowledge_store, learner_config
from infra.errors import UsageError
from infra.evaluation import observations
from infra.settings import Settings
from infra.shelf import read_shelf
from learners.interactions import is_target
from learners.knowledge.contents import encode_tensors
from learners.knowledge.entry import Entry, Lineage
from learners.knowledge.privacy import PrivacyConfig, person_rows, train_privately
from learners.knowledge.task_vectors import task_vector
from learners.rounds.material import RoundInput
from streams.eventlog import event_log


def privatize(
    events: Path, catalog: Path, settings: Settings, config: PrivacyConfig, *, console: Console | None = None
) -> Entry:
    """Learn a trunk from a log with differential privacy, and deposit it: nothing else of the log is in the entry.

    Neither worth nor the log's label statistics go with it; its task vector is the catalogue's.

    Args:
        events: The log.
        catalog: The catalogue; what it does not name is not learned.
        settings: All settings; Postgres is set.
        config: How private.
        console: Where progress goes; None: nowhere.

    Raises:
        LogFileError: If a file cannot be read.
        UsageError: If the log has nobody who did anything with what the catalogue names.
        MissingExtraError: If the extra `privacy` is not installed.
    """
    shelf = read_shelf([catalog], settings, console=console or Console(quiet=True))
    people = dict[str, list[int]]()
    lateness_ms = settings.ingest.allowed_lateness_s * 1000
    for event in observations(event_log(events, limit=None), allowed_lateness_ms=lateness_ms):
        if is_target(event.event_type) and (item_index := shelf.catalog.index_of(event.item_id)):
            people.setdefault(event.user_id, []).append(item_index)
    if not people:
        raise UsageError(f"{events} has nobody who did anything with what {catalog} names")
    learner = learner_config(settings, shelf.layout)
    tokens, mask = person_rows(people, length=learner.model.history_length)
    nothing = tokens[:0]
    round_input = RoundInput(
        tokens=tokens,
        loss_mask=mask,
        weight=np.ones(len(tokens), np.float32),
        replayed=np.zeros(len(tokens), np.bool_),
        newest_histories=nothing[:, 1:],
        newest_targets=nothing[:, 0],
        frozen_histories=nothing[:, 1:],
        frozen_targets=nothing[:, 0],
        item_ids=list(shelf.catalog.item_ids),
        text_vectors=shelf.vectors,
        active=shelf.catalog.active.copy(),
        model=learner.model,
        training=learner.training,
    )
    private = train_privately(round_input, config)
    every = np.arange(len(shelf.catalog)) > 0
    store = knowledge_store(settings)
    store.create()
    notes = {"encoder": settings.model.text_encoder, "width": str(learner.model.width), **private.notes(config)}
    return store.deposit(
        encode_tensors(private.trunk),
        kind="adapter",
        privacy="shop",
        lineage=Lineage(task=settings.knowledge.task, model="private", notes=notes),
        embedding=task_vector(round_input.texts, every.astype(np.int64), every.astype(np.int64)).tolist(),
    )
