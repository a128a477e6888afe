"""`alluvium knowledge privatize`: a trunk that may leave, learned from a log with differential privacy."""

from pathlib import Path

import numpy as np

from infra.composition import TEXT_VECTORS, knowledge_store, learner_config
from infra.errors import UsageError
from infra.evaluation import ITEM_FIELDS, observations
from infra.settings import Settings
from learners.catalog import Catalog
from learners.encoder import open_encoder
from learners.interactions import is_target
from learners.knowledge.contents import encode_tensors
from learners.knowledge.entry import Entry, Lineage
from learners.knowledge.privacy import PrivacyConfig, person_rows, train_privately
from learners.knowledge.task_vectors import task_vector
from learners.round_input import RoundInput
from learners.text_vectors import TextVectors
from streams.eventlog import catalog_file, event_log


def privatize(events: Path, catalog: Path, settings: Settings, config: PrivacyConfig) -> Entry:
    """Learn a trunk from a log with differential privacy, and deposit it: nothing else of the log is in the entry.

    Neither worth nor the log's label statistics go with it; its task vector is the catalogue's.

    Args:
        events: The log.
        catalog: The catalogue; what it does not name is not learned.
        settings: All settings; Postgres is set.
        config: How private.

    Raises:
        LogFileError: If a file cannot be read.
        UsageError: If the log has nobody who did anything with what the catalogue names.
        MissingExtraError: If the extra `privacy` is not installed.
    """
    shelf, people = Catalog(), dict[str, list[int]]()
    for chunk in catalog_file(catalog):
        for item in chunk:
            shelf.upsert(**{name: getattr(item, name) for name in ITEM_FIELDS})
    lateness_ms = settings.ingest.allowed_lateness_s * 1000
    for event in observations(event_log(events, limit=None), allowed_lateness_ms=lateness_ms):
        if is_target(event.event_type) and (item_index := shelf.index_of(event.item_id)):
            people.setdefault(event.user_id, []).append(item_index)
    if not people:
        raise UsageError(f"{events} has nobody who did anything with what {catalog} names")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    encoder = open_encoder(settings.model.text_encoder, cache=settings.data_dir.absolute() / TEXT_VECTORS)
    texts = TextVectors(encoder)
    texts.update(shelf)
    vectors = texts.matrix(shelf)
    learner = learner_config(settings, text_width=encoder.width)
    tokens, mask = person_rows(people, length=learner.model.history_length)
    nothing = tokens[:0]
    private = train_privately(
        RoundInput(
            tokens=tokens,
            loss_mask=mask,
            weight=np.ones(len(tokens), np.float32),
            replayed=np.zeros(len(tokens), np.bool_),
            newest_histories=nothing[:, 1:],
            newest_targets=nothing[:, 0],
            frozen_histories=nothing[:, 1:],
            frozen_targets=nothing[:, 0],
            item_ids=list(shelf.item_ids),
            text_vectors=vectors,
            active=shelf.active.copy(),
            model=learner.model,
            training=learner.training,
        ),
        config,
    )
    every = np.arange(len(shelf)) > 0
    store = knowledge_store(settings)
    store.create()
    notes = {"encoder": settings.model.text_encoder, "width": str(learner.model.width), **private.notes(config)}
    return store.deposit(
        encode_tensors(private.trunk),
        kind="adapter",
        privacy="shop",
        lineage=Lineage(task=settings.knowledge.task, model="private", notes=notes),
        embedding=task_vector(vectors, every.astype(np.int64), every.astype(np.int64)).tolist(),
    )
