"""The two real logs of the benchmark and a small simulated one, as interactions and as arrays."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prequential_parts.log import DAY_MS, Log
from infra.evaluation import observations
from infra.shelf import read_items
from learners.interactions import Observation, is_target
from learners.items.catalog import Catalog
from streams.eventlog import event_log

LATENESS_MS = 3_600_000


@dataclass(frozen=True)
class Dataset:
    """A log for every kind of contender.

    Args:
        events: What happened, events that are not predicted included.
        items: The catalogue, known in advance, as `Catalog.upsert` takes it.
        log: The predicted ones as arrays.
    """

    events: Sequence[Observation]
    items: Sequence[dict[str, Any]]
    log: Log


def online_retail(folder: Path, limit: int | None) -> Dataset:
    """UCI Online Retail: purchases; people come back to what they bought. Returns are not predicted."""
    log = event_log(folder / "online_retail" / "events.parquet", limit=limit)
    items = read_items([folder / "online_retail" / "catalog.parquet"])
    return assemble("online_retail", list(observations(log, allowed_lateness_ms=LATENESS_MS)), items, once=False)


def ml_100k(folder: Path, limit: int | None) -> Dataset:
    """MovieLens 100k: every rating is an interaction, whatever its stars; nobody rates a film twice."""
    ratings = sorted(_table(folder / "ml_100k" / "ml-100k.inter.gz"), key=lambda row: int(row[3]))[:limit]
    events = [
        Observation(user_id=user, item_id=item, event_type="click", event_time_ms=int(seconds) * 1000)
        for user, item, _, seconds in ratings
    ]
    items = [
        {"item_id": item, "title": title, "category": tuple(genres.split()), "attributes": {"year": year}}
        for item, title, year, genres in _table(folder / "ml_100k" / "ml-100k.item.gz")
    ]
    return assemble("ml_100k", events, items, once=True)


def toy(_folder: Path, limit: int | None) -> Dataset:
    """Sixty people of six tastes among ninety items, for two months: enough to see whether everything runs."""
    rng = np.random.default_rng(7)
    events = []
    for number in range(limit or 1_200):
        user = int(rng.integers(60))
        item = int(15 * (user % 6) + rng.integers(15)) if rng.random() < 0.8 else int(rng.integers(90))
        at_ms = 1_700_000_000_000 + number * DAY_MS // 20
        events.append(Observation(user_id=f"u{user}", item_id=f"i{item}", event_type="click", event_time_ms=at_ms))
    items = [{"item_id": f"i{number}", "title": f"thing {number // 15} {number}"} for number in range(90)]
    return assemble("toy", events, items, once=False)


DATASETS: dict[str, Callable[[Path, int | None], Dataset]] = {
    "online_retail": online_retail,
    "ml_100k": ml_100k,
    "toy": toy,
}


def assemble(name: str, events: Sequence[Observation], items: Sequence[dict[str, Any]], *, once: bool) -> Dataset:
    """Turn events into arrays, by the item indexes that the learner itself will give.

    >>> click = Observation(user_id="ann", item_id="mug", event_type="click", event_time_ms=1)
    >>> found = assemble("one", [click, click], [{"item_id": "cup"}], once=False)
    >>> found.log.items.tolist(), found.log.known.tolist()  # the first time, nobody had listed the mug
    ([2, 2], [2, 3])
    """
    catalog = Catalog()
    for item in items:
        catalog.upsert(**item)
    people: dict[str, int] = {}
    rows = []
    for event in events:
        known = len(catalog)
        index = catalog.admit(event.item_id)
        if is_target(event.event_type):
            rows.append((people.setdefault(event.user_id, len(people)), index, event.event_time_ms, known))
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    users, indexes, known = (columns[place].astype(np.int32) for place in (0, 1, 3))
    return Dataset(events, items, Log(name, users, indexes, columns[2], known, once=once))


def _table(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a tab-separated file under its header."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            yield line.rstrip("\n").split("\t")
