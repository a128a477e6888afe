"""Markets as files: events and catalogue become the first round of a learner that never saw a stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from infra.composition import learner_config
from infra.errors import UsageError
from infra.evaluation import observations
from infra.settings import Settings
from infra.shelf import read_shelf
from learners.knowledge.market import market_round
from learners.rounds.material import RoundInput
from streams.eventlog import event_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Markets:
    """Markets over one catalogue.

    Args:
        rounds: A first round of each.
        pictures: What became of the catalogue's pictures; see `learners.items.shelf.Shelf`.
    """

    rounds: Sequence[RoundInput]
    pictures: Mapping[str, int] | None


def read_markets(
    events: Sequence[Path], catalogs: Sequence[Path], settings: Settings, *, console: Console | None = None
) -> Markets:
    """Return a first round of each market, all over one catalogue, that of all files together.

    Items are described as the live learner's would be, by the same settings.

    Args:
        events: A log each.
        catalogs: Their catalogues; the same item in two of them is one item.
        settings: All settings.
        console: Where progress goes; None: nowhere.

    Raises:
        LogFileError: If a file cannot be read.
        EncoderUnavailableError: If an encoder's weights are nowhere to be found.
        UsageError: If a market has nothing to learn from, or nothing to be judged by.
    """
    shelf = read_shelf(catalogs, settings, console=console or Console(quiet=True))
    catalog, lateness_ms = shelf.catalog, settings.ingest.allowed_lateness_s * 1000
    seen = [[*observations(event_log(path, limit=None), allowed_lateness_ms=lateness_ms)] for path in events]
    for market in seen:
        for event in market:
            catalog.admit(event.item_id)
    config = learner_config(settings, shelf.layout)
    rounds = [
        market_round(market, catalog, text_vectors=shelf.vectors, config=config, seed=settings.seed) for market in seen
    ]
    for path, made in zip(events, rounds, strict=True):
        if not made.loss_mask.any() or not len(made.newest_targets):
            raise UsageError(f"{path} has too few events: {len(made.newest_targets)} to judge by, none to learn from")
    return Markets(rounds=rounds, pictures=shelf.pictures)
