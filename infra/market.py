"""Markets as files: events and catalogue become the first round of a learner that never saw a stream."""

from collections.abc import Sequence
from pathlib import Path

from infra.composition import TEXT_VECTORS, learner_config
from infra.errors import UsageError
from infra.evaluation import ITEM_FIELDS, observations
from infra.settings import Settings
from learners.items.catalog import Catalog
from learners.items.encoder import open_encoder
from learners.items.text_vectors import TextVectors
from learners.knowledge.market import market_round
from learners.rounds.material import RoundInput
from streams.eventlog import catalog_file, event_log


def read_markets(events: Sequence[Path], catalogs: Sequence[Path], settings: Settings) -> list[RoundInput]:
    """Return a first round of each market, all over one catalogue, that of all files together.

    Args:
        events: A log each.
        catalogs: Their catalogues; the same item in two of them is one item.
        settings: All settings.

    Raises:
        LogFileError: If a file cannot be read.
        UsageError: If a market has nothing to learn from, or nothing to be judged by.
    """
    catalog = Catalog()
    for path in catalogs:
        for chunk in catalog_file(path):
            for item in chunk:
                catalog.upsert(**{name: getattr(item, name) for name in ITEM_FIELDS})
    lateness_ms = settings.ingest.allowed_lateness_s * 1000
    seen = [[*observations(event_log(path, limit=None), allowed_lateness_ms=lateness_ms)] for path in events]
    for market in seen:
        for event in market:
            catalog.admit(event.item_id)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    encoder = open_encoder(settings.model.text_encoder, cache=settings.data_dir.absolute() / TEXT_VECTORS)
    texts = TextVectors(encoder)
    texts.update(catalog)
    config = learner_config(settings, text_width=encoder.width)
    rounds = [
        market_round(market, catalog, text_vectors=texts.matrix(catalog), config=config, seed=settings.seed)
        for market in seen
    ]
    for path, made in zip(events, rounds, strict=True):
        if not made.loss_mask.any() or not len(made.newest_targets):
            raise UsageError(f"{path} has too few events: {len(made.newest_targets)} to judge by, none to learn from")
    return rounds
