"""Logs and catalogues as files: Parquet, CSV or JSON lines, read a chunk at a time.

A log has the columns `user_id`, `item_id`, `event_type` and `event_time`, and any other field of a clickstream event;
columns that the wire does not know go to `context` (for a catalogue: to `attributes`). What cannot be read is counted,
with the first reasons kept; it never ends the reading. A file that lacks a required column does, and so does a CSV file
that is not in the encoding that it is said to be in; without being told, CSV is read as UTF-8, and what is not becomes
U+FFFD.
"""

import contextlib
import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TextIO, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from streams.errors import StreamsError
from streams.events import CatalogItem

REQUIRED_EVENT_COLUMNS = ("user_id", "item_id", "event_type", "event_time")
REQUIRED_ITEM_COLUMNS = ("item_id", "title")
EVENT_TEXTS = ("session_id", "query", "ranking_id")
EVENT_NUMBERS = ("price", "quantity")
CHUNK_ROWS = 5_000
PROBLEMS_KEPT = 5
SECONDS_BELOW = 100_000_000_000  # a numeric time below this is in seconds (until year 5138), else in milliseconds

Row = dict[str, Any]
Entry = TypeVar("Entry")


class LogFileError(StreamsError, ValueError):
    """A file of events or items cannot be read at all."""

    def __init__(self, path: Path, *, found: str, expected: str) -> None:
        super().__init__(f"{path}: {found}; expected {expected}")
        self.path = path


class LoggedEvent(NamedTuple):
    """One event of a log; `fields` holds the optional fields of the wire that are set."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time_ms: int
    fields: dict[str, Any]


class LogFile(Generic[Entry]):
    """A file of events or items; iterating yields chunks of it and counts what could not be read.

    Args:
        path: File ending in .parquet, .csv, .jsonl or .ndjson.
        required: Columns that must be there.
        convert: Makes an entry of a row and its number in the file; raises ValueError with the reason where it cannot.
        limit: Most rows to read; None for all.
        chunk_rows: Rows read at once, which bounds memory.
        encoding: Of a CSV file, such as gb18030; the other formats say it themselves.

    Raises:
        LogFileError: No such file, an unknown ending, a required column is missing, or, while reading too, bytes that
            the encoding does not know.
    """

    def __init__(
        self,
        path: Path,
        *,
        required: tuple[str, ...],
        convert: Callable[[Row, int], Entry],
        limit: int | None = None,
        chunk_rows: int = CHUNK_ROWS,
        encoding: str | None = None,
    ) -> None:
        self.path = path
        self.unreadable = 0
        self.problems: list[str] = []
        self._convert = convert
        self._limit = limit
        self._chunk_rows = chunk_rows
        if not path.is_file():
            raise LogFileError(path, found="no such file", expected="a file of events or items")
        readers: dict[str, Callable[[Path, int], Iterator[list[Row]]]] = {
            ".parquet": _parquet,
            ".csv": partial(_csv, encoding=encoding),
            ".jsonl": _json_lines,
            ".ndjson": _json_lines,
        }
        if path.suffix.lower() not in readers:
            raise LogFileError(path, found=f"ending {path.suffix!r}", expected=" or ".join(readers))
        self._read = readers[path.suffix.lower()]
        columns = _columns(path, encoding)
        if missing := [name for name in required if columns and name not in columns]:
            raise LogFileError(path, found=f"columns {sorted(columns)}", expected=f"also {', '.join(missing)}")

    @property
    def total(self) -> int | None:
        """Entries to expect, for a progress bar; None where only reading would tell."""
        if self.path.suffix.lower() != ".parquet":
            return self._limit
        rows = int(pa.parquet.read_metadata(self.path).num_rows)
        return rows if self._limit is None else min(rows, self._limit)

    def count(self) -> int:
        """Entries to expect, counted by reading where there is no other way; unreadable ones are among them."""
        if self.total is not None and self.path.suffix.lower() == ".parquet":
            return self.total
        rows = sum(len(chunk) for chunk in self._read(self.path, self._chunk_rows))
        return rows if self._limit is None else min(rows, self._limit)

    def __iter__(self) -> Iterator[list[Entry]]:
        """Yield the entries, at most `chunk_rows` at once, in the order of the file."""
        self.unreadable, self.problems = 0, []
        number = 0
        for rows in self._read(self.path, self._chunk_rows):
            entries = []
            for row in rows if self._limit is None else rows[: self._limit - number]:
                try:
                    entries.append(self._convert(row, number))
                except ValueError as problem:
                    self.unreadable += 1
                    if len(self.problems) < PROBLEMS_KEPT:
                        self.problems.append(f"row {number + 1}: {problem}")
                number += 1
            if entries:
                yield entries
            if self._limit is not None and number >= self._limit:
                return


def event_log(
    path: Path, *, limit: int | None = None, chunk_rows: int = CHUNK_ROWS, encoding: str | None = None
) -> LogFile[LoggedEvent]:
    """The log at `path`; see `LogFile`."""
    return LogFile(
        path,
        required=REQUIRED_EVENT_COLUMNS,
        convert=event_of,
        limit=limit,
        chunk_rows=chunk_rows,
        encoding=encoding,
    )


def catalog_file(path: Path, *, chunk_rows: int = CHUNK_ROWS, encoding: str | None = None) -> LogFile[CatalogItem]:
    """The catalogue at `path`; see `LogFile`."""
    return LogFile(path, required=REQUIRED_ITEM_COLUMNS, convert=item_of, chunk_rows=chunk_rows, encoding=encoding)


def event_of(row: Mapping[str, Any], number: int) -> LoggedEvent:
    """One row of a log as an event; without an `event_id` it gets one that is the same at every reading.

    >>> row = {"user_id": 7, "item_id": "a", "event_type": "view", "event_time": 1_600_000_000, "shop": "x"}
    >>> event = event_of(row, 0)
    >>> event.user_id, event.event_time_ms, event.fields
    ('7', 1600000000000, {'context': {'shop': 'x'}})

    Raises:
        ValueError: A required field is missing or is no time.
    """
    user_id, item_id, event_type = (_text(row, name) for name in REQUIRED_EVENT_COLUMNS[:3])
    event_time_ms = time_ms(row.get("event_time"))
    fields: dict[str, Any] = {}
    context: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or name in REQUIRED_EVENT_COLUMNS or name in ("event_id", "schema_version"):
            continue
        if name in EVENT_TEXTS:
            fields[name] = str(value)
        elif name in EVENT_NUMBERS:
            fields[name] = _number(name, value)
        elif name == "position":
            fields[name] = int(_number(name, value))
        elif name == "context" and isinstance(value, dict):
            context.update(value)
        else:
            context[name] = value if isinstance(value, str | int | float | bool | list | dict) else str(value)
    if context:
        fields["context"] = context
    event_id = row.get("event_id")
    if event_id in (None, ""):
        content = f"{number}\n{user_id}\n{item_id}\n{event_type}\n{event_time_ms}"
        event_id = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    return LoggedEvent(str(event_id), user_id, item_id, event_type, event_time_ms, fields)


def item_of(row: Mapping[str, Any], number: int) -> CatalogItem:  # noqa: ARG001 - the shape LogFile calls
    """One row of a catalogue as an item; a category in one string is a path split at ">".

    >>> item_of({"item_id": 5, "title": "Red mug", "category": "Home > Kitchen", "colour": "red"}, 0).category
    ('Home', 'Kitchen')
    """
    category = row.get("category") or ()
    parts = category.split(">") if isinstance(category, str) else category
    known = {name: str(row[name]) for name in ("description", "brand", "image") if row.get(name) is not None}
    attributes = dict(row.get("attributes") or {}) if isinstance(row.get("attributes") or {}, dict) else {}
    attributes |= {
        name: value
        for name, value in row.items()
        if name not in CatalogItem.__struct_fields__ and isinstance(value, str | int | float | list)
    }
    price = row.get("price")
    return CatalogItem(
        item_id=_text(row, "item_id"),
        title=str(row.get("title") or ""),
        category=tuple(str(part).strip() for part in parts),
        price=None if price is None else _number("price", price),
        attributes=attributes,
        **known,  # type: ignore[arg-type]
    )


def encode(events: list[LoggedEvent]) -> list[bytes]:
    """The events as `clickstream.events` carries them; fields that are not set are left out."""
    times = np.array([event.event_time_ms for event in events], dtype="datetime64[ms]")
    moments = np.datetime_as_string(times, unit="ms", timezone="UTC").tolist()
    encoder = msgspec.json.Encoder()
    return [
        encoder.encode(
            {
                "schema_version": 1,
                "event_id": event.event_id,
                "user_id": event.user_id,
                "item_id": event.item_id,
                "event_type": event.event_type,
                "event_time": moment,
                **event.fields,
            }
        )
        for event, moment in zip(events, moments, strict=True)
    ]


def time_ms(value: object) -> int:
    """A moment as milliseconds since 1970: a datetime, ISO 8601 text (UTC unless it says otherwise) or a number.

    >>> time_ms("1970-01-01T00:00:01Z"), time_ms("1970-01-01 00:00:01.5"), time_ms(1_600_000_000)
    (1000, 1500, 1600000000000)

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            value = _number("event_time", value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MILLISECOND
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        message = f"event_time is {value!r}, not a time"
        raise ValueError(message)
    return round(value * 1000) if abs(value) < SECONDS_BELOW else round(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = datetime.resolution * 1000


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or value == "":
        message = f"{name} is missing"
        raise ValueError(message)
    return str(value)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        message = f"{name} is {value!r}, not a number"
        raise ValueError(message) from None


def _columns(path: Path, encoding: str | None) -> set[str]:
    """Names in the header; empty for JSON lines, where every line says it again."""
    if path.suffix.lower() == ".parquet":
        try:
            return set(pa.parquet.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise LogFileError(path, found=str(error), expected="Parquet") from error
    if path.suffix.lower() == ".csv":
        with _csv_lines(path, encoding) as lines:
            return set(next(csv.reader(lines), []))
    return set()


def _parquet(path: Path, chunk_rows: int) -> Iterator[list[Row]]:
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=chunk_rows):
            columns = [_python_values(column) for column in batch.columns]
            names = batch.schema.names
            yield [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _python_values(column: pa.Array) -> list[Any]:
    """As `to_pylist`, but times without their zone (much faster) and a 32-bit 2.55 as 2.55, not as 2.5499999."""
    if pa.types.is_timestamp(column.type):
        return column.to_numpy(zero_copy_only=False).astype("datetime64[us]").tolist()  # type: ignore[no-any-return]
    if pa.types.is_float32(column.type):
        return column.cast(pa.string()).cast(pa.float64()).to_pylist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


@contextlib.contextmanager
def _csv_lines(path: Path, encoding: str | None) -> Iterator[TextIO]:
    """Open a CSV file; what is not in the encoding that was asked for is an error, in UTF-8 by default U+FFFD."""
    errors = "replace" if encoding is None else "strict"
    try:
        lines = path.open(newline="", encoding=encoding or "utf-8-sig", errors=errors)
    except LookupError as error:
        raise LogFileError(path, found=str(error), expected="an encoding such as utf-8 or gb18030") from error
    try:
        with lines:
            yield lines
    except UnicodeDecodeError as error:
        found = f"bytes {error.object[error.start : error.end].hex(' ')}, which are not {encoding}"
        raise LogFileError(path, found=found, expected=f"a file in {encoding}, or another --encoding") from error


def _csv(path: Path, chunk_rows: int, encoding: str | None) -> Iterator[list[Row]]:
    with _csv_lines(path, encoding) as lines:
        rows = ({name: value for name, value in row.items() if name and value} for row in csv.DictReader(lines))
        while chunk := list(islice(rows, chunk_rows)):
            yield chunk


def _json_lines(path: Path, chunk_rows: int) -> Iterator[list[Row]]:
    with path.open("rb") as lines:
        while chunk := list(islice(lines, chunk_rows)):
            yield [_json_line(line) for line in chunk if line.strip()]


def _json_line(line: bytes) -> Row:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}  # an empty row lacks user_id: counted as unreadable like any other
