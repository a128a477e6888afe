"""Purchases as arrays, with where each was made, and a small simulated world of the same form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.knowledge_parts.errors import LogMissingError
from learners.items.encoder import Encoder

Indexes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

HOME = "United Kingdom"
OPENING_MS = int(datetime(2011, 7, 1, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Log:
    """Who bought what, when and where, oldest first.

    Args:
        users: 0..U-1, [T].
        items: Catalogue indexes; 0 is padding, [T].
        times_ms: [T].
        places: Country of each purchase, by its index in `countries`, [T].
        countries: Names.
        item_ids: `item_index` -> `item_id`, N of them; the first is padding.
        texts: What stands for each item in the encoder, N of them.
    """

    users: Indexes
    items: Indexes
    times_ms: npt.NDArray[np.int64]
    places: Indexes
    countries: Sequence[str]
    item_ids: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        """T."""
        return len(self.users)

    def where(self, mask: npt.NDArray[np.bool_]) -> "Log":
        """Return some of the purchases; people and items keep their indexes."""
        arrays = {name: getattr(self, name)[mask] for name in ("users", "items", "times_ms", "places")}
        return replace(self, **arrays)

    def of(self, countries: Sequence[str]) -> "Log":
        """Return what was bought in some countries."""
        wanted = [index for index, name in enumerate(self.countries) if name in countries]
        return self.where(np.isin(self.places, wanted))

    def between(self, start_ms: float = -np.inf, end_ms: float = np.inf) -> "Log":
        """Return what was bought from one moment on and before another."""
        return self.where((self.times_ms >= start_ms) & (self.times_ms < end_ms))

    def people(self) -> int:
        """How many different people there are."""
        return len(np.unique(self.users))


def online_retail(folder: Path) -> Log:
    """Read UCI Online Retail: purchases only, the dirt left in as the data set has it.

    Raises:
        LogMissingError: If it does not lie there.
    """
    events, shelf = (folder / "online_retail" / name for name in ("events.parquet", "catalog.parquet"))
    for path in (events, shelf):
        if not path.is_file():
            raise LogMissingError(path=path)
    catalog = pq.read_table(shelf, columns=["item_id", "title"]).to_pydict()
    item_ids = ["", *catalog["item_id"]]
    columns = ["user_id", "item_id", "event_type", "event_time", "country"]
    bought = pq.read_table(events, columns=columns, filters=[("event_type", "=", "purchase")])
    place = {item_id: index for index, item_id in enumerate(item_ids)}
    _, users = np.unique(bought["user_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    countries, places = np.unique(bought["country"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return Log(
        users=users.astype(np.int32),
        items=np.array([place[item_id] for item_id in bought["item_id"].to_pylist()], np.int32),
        times_ms=bought["event_time"].to_numpy(zero_copy_only=False).astype("datetime64[ms]").astype(np.int64),
        places=places.astype(np.int32),
        countries=[str(name) for name in countries],
        item_ids=item_ids,
        texts=["", *(title or "" for title in catalog["title"])],
    )


def toy_world(countries: Mapping[str, int], *, home_people: int = 150, seed: int = 3) -> Log:
    """Simulate shops whose people walk along rings of alike items: what one country teaches holds in all of them.

    Sixty items of five kinds; whoever bought one of a kind mostly buys the next of that kind. The home country buys
    before `OPENING_MS`, all others after it.

    Args:
        countries: Other countries and their people.
        home_people: People of the home country.
        seed: Of every draw.
    """
    rng = np.random.default_rng(seed)
    names = [HOME, *countries]
    rows: list[tuple[int, int, int, int]] = []
    person = 0
    for place, (name, people) in enumerate({HOME: home_people, **countries}.items()):
        begin = OPENING_MS + (-90 if name == HOME else 0) * DAY_MS
        for _ in range(people):
            item = int(rng.integers(60))
            for moment in np.sort(rng.integers(80 * DAY_MS, size=16)):
                rows.append((begin + int(moment), person, item + 1, place))
                kind, step = divmod(item, 12)
                item = 12 * kind + (step + 1) % 12 if rng.random() < 0.9 else int(rng.integers(60))
            person += 1
    times_ms, users, items, places = np.array(sorted(rows), np.int64).T
    return Log(
        users=users.astype(np.int32),
        items=items.astype(np.int32),
        times_ms=times_ms,
        places=places.astype(np.int32),
        countries=names,
        item_ids=["", *(f"i{number}" for number in range(60))],
        texts=["", *(f"thing kind{number // 12} number{number}" for number in range(60))],
    )


def text_vectors(log: Log, encoder: Encoder) -> Floats:
    """Return the text vector of every item, float32 [N, T]; zeros for padding and for items without a title."""
    vectors = np.zeros((len(log.texts), encoder.width), np.float32)
    titled = [index for index, text in enumerate(log.texts) if text]
    vectors[titled] = encoder.encode([log.texts[index] for index in titled])
    return vectors
