"""What workers need of fast memory, as JSON payloads by `item_id`; numbers travel as float32, so nothing is rounded."""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from learners.fast_memory.memory import FastMemory

ITEM, TABLES = "item", "tables"
_REPEATS, _POOL = "repeats", "fast_memory"


@dataclass(frozen=True, slots=True)
class ExpertUpdate:
    """One key's newest content.

    Args:
        expert: Whose it is.
        key: Which part: an `item_id`, or the name of a table.
        payload: JSON.
    """

    expert: str
    key: str
    payload: bytes


class Names(Protocol):
    """As much of a `Catalog` as the wire needs."""

    @property
    def item_ids(self) -> Sequence[str]: ...
    def admit(self, item_id: str) -> int: ...


class ItemPayload(msgspec.Struct, frozen=True, gc=False):
    """What is known of one item.

    `numbers`: how often it was seen, one count per half-life, then its links' strengths; float32 in base64.
    """

    eras: list[int]  # of links, of seen, of each half-life's counts
    last_ms: int
    neighbours: list[str]  # item_ids, strengths in `numbers`; "" is a free place
    numbers: str


class TablePayload(msgspec.Struct, frozen=True):
    """A small table of float64 rows."""

    rows: list[list[float]]


_decode_item = msgspec.json.Decoder(ItemPayload).decode
_decode_table = msgspec.json.Decoder(TablePayload).decode
_encode = msgspec.json.Encoder().encode


def take_updates(memory: FastMemory, names: Names, *, limit: int | None = None) -> Iterator[ExpertUpdate]:
    """Hand out, once, what changed since the last call: the small tables, then items, the longest-waiting first.

    Args:
        memory: What was learned.
        names: `item_index` -> `item_id`.
        limit: Most items handed out; the others wait for the next call.
    """
    if memory.tables_changed:
        memory.tables_changed = False
        yield from _tables(memory)
    for item_index in list(memory.changed)[:limit]:
        del memory.changed[item_index]
        yield _item(memory, names, item_index)


def full_copy(memory: FastMemory, names: Names) -> Iterator[ExpertUpdate]:
    """Hand out everything; a replica fed with it alone ranks as the original does."""
    yield from _tables(memory)
    known = np.flatnonzero(memory.covisitation.seen.values).tolist()
    for item_index in known:
        yield _item(memory, names, item_index)


def apply_update(memory: FastMemory, names: Names, update: ExpertUpdate) -> bool:
    """Put an update into a replica; says whether it was fast memory's.

    Raises:
        msgspec.ValidationError: If the payload is not what its expert writes.
    """
    if update.expert == ITEM:
        _apply_item(memory, names, update)
        return True
    if update.expert != TABLES:
        return False
    if update.key == _REPEATS:
        exposed, repeated = _decode_table(update.payload).rows
        memory.repeats.set_state({"exposed": exposed, "repeated": repeated})
        return True
    if update.key == _POOL:
        memory.pool.weights = np.array(_decode_table(update.payload).rows, np.float64)
        return True
    return False


def table_update(key: str, rows: list[list[float]]) -> ExpertUpdate:
    """Return a small table as an update."""
    return ExpertUpdate(TABLES, key, _encode(TablePayload(rows)))


def table_rows(update: ExpertUpdate) -> list[list[float]]:
    """Return what `table_update` was given."""
    return _decode_table(update.payload).rows


def _tables(memory: FastMemory) -> Iterator[ExpertUpdate]:
    yield table_update(_REPEATS, [memory.repeats.exposed.tolist(), memory.repeats.repeated.tolist()])
    yield table_update(_POOL, memory.pool.weights.tolist())


def _item(memory: FastMemory, names: Names, item_index: int) -> ExpertUpdate:
    links, popularity = memory.covisitation, memory.popularity
    item_ids = names.item_ids
    used = int(np.count_nonzero(links.neighbours[item_index]))  # places are filled in order and never freed
    numbers = np.concatenate(
        [
            links.seen.values[item_index : item_index + 1],
            np.array([counts.values[item_index] for counts in popularity.counts], np.float32),
            links.links.values[item_index, :used],
        ]
    )
    payload = ItemPayload(
        eras=[links.links.era, links.seen.era, *(counts.era for counts in popularity.counts)],
        last_ms=int(popularity.last_ms[item_index]),
        neighbours=[item_ids[neighbour] for neighbour in links.neighbours[item_index, :used].tolist()],
        numbers=b64encode(numbers.astype("<f4").tobytes()).decode(),
    )
    return ExpertUpdate(ITEM, item_ids[item_index], _encode(payload))


def _apply_item(memory: FastMemory, names: Names, update: ExpertUpdate) -> None:
    payload = _decode_item(update.payload)
    numbers = np.frombuffer(b64decode(payload.numbers), "<f4").astype(np.float32)
    kinds = 1 + len(memory.popularity.counts)
    if len(payload.eras) != kinds + 1 or len(numbers) != kinds + len(payload.neighbours):
        message = f"item {update.key!r}: {len(numbers)} numbers and {len(payload.eras)} eras do not fit"
        raise msgspec.ValidationError(message)
    item_index = names.admit(update.key)
    neighbours = [names.admit(item_id) for item_id in payload.neighbours]
    memory.reserve(max([item_index, *neighbours]) + 1)
    links, popularity = memory.covisitation, memory.popularity
    links_era, seen_era, *count_eras = payload.eras
    links.seen.values[item_index] = links.seen.take(numbers[:1], of_era=seen_era)[0]
    for counts, value, era in zip(popularity.counts, numbers[1:kinds, None], count_eras, strict=True):
        counts.values[item_index] = counts.take(value, of_era=era)[0]
    popularity.last_ms[item_index] = payload.last_ms
    strengths = links.links.take(numbers[kinds:], of_era=links_era)
    room = links.config.neighbours
    links.neighbours[item_index] = 0
    links.links.values[item_index] = 0
    links.neighbours[item_index, : len(neighbours)] = neighbours[:room]
    links.links.values[item_index, : len(neighbours)] = strengths[:room]
