"""Logs and catalogues as files: the same events whatever the format, and nothing unreadable lost in silence."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from streams.eventlog import LogFileError, catalog_file, encode, event_log
from streams.events import ClickstreamEvent

ROWS = [
    {"user_id": "u1", "item_id": "a", "event_type": "view", "event_time": "2026-01-31T12:00:00.123Z", "price": 2.55},
    {"user_id": "u2", "item_id": "b", "event_type": "cart", "event_time": "2026-01-31T13:00:00+01:00", "country": "FR"},
]
DECODED = [(1769860800123, "u1", "a", "view"), (1769860800000, "u2", "b", "cart")]


def write(path: Path, rows: list[dict]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        columns = {name: [row.get(name) for row in rows] for name in names}
        if "event_time" in columns:
            columns["event_time"] = [datetime.fromisoformat(time).astimezone(UTC) for time in columns["event_time"]]
        table = pa.table(columns)
        if "price" in names:
            table = table.set_column(names.index("price"), "price", table["price"].cast(pa.float32()))
        pa.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        lines = [",".join(str(row.get(name, "")) for name in names) for row in rows]
        path.write_text("\n".join([",".join(names), *lines]))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_each_format_gives_the_same_events(tmp_path: Path, ending: str) -> None:
    log = event_log(write(tmp_path / f"events.{ending}", ROWS))
    events = [event for chunk in log for event in chunk]
    assert [(event.event_time_ms, event.user_id, event.item_id, event.event_type) for event in events] == DECODED
    assert events[0].fields == {"price": 2.55}  # as written, although Parquet held it in 32 bits
    assert events[1].fields == {"context": {"country": "FR"}}
    assert log.unreadable == 0


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_what_is_sent_is_what_the_wire_reads(tmp_path: Path, ending: str) -> None:
    (events,) = event_log(write(tmp_path / f"events.{ending}", ROWS))
    first, second = (msgspec.json.decode(payload, type=ClickstreamEvent) for payload in encode(events))
    assert first.event_time == datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC)
    assert (first.price, second.price) == (2.55, None)
    assert second.context == {"country": "FR"}


def test_generated_event_ids_are_the_same_at_every_reading_and_differ_between_equal_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", [ROWS[0], ROWS[0]])
    first, second = ([event.event_id for chunk in event_log(path) for event in chunk] for _ in range(2))
    assert first == second
    assert len(set(first)) == 2


def test_unreadable_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", [*ROWS, {**ROWS[0], "event_time": "soon"}, {**ROWS[0], "user_id": None}])
    with path.open("a") as lines:
        lines.write("\nnot json\n")
    log = event_log(path)
    assert sum(len(chunk) for chunk in log) == 2
    assert log.unreadable == 3
    assert log.problems == [
        "row 3: event_time is 'soon', not a number",
        "row 4: user_id is missing",
        "row 5: user_id is missing",
    ]


def test_limit_and_chunks_keep_the_order(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "event_id": f"e{number}"} for number in range(10)]
    log = event_log(write(tmp_path / "events.parquet", rows), limit=7, chunk_rows=3)
    assert [[event.event_id for event in chunk] for chunk in log] == [["e0", "e1", "e2"], ["e3", "e4", "e5"], ["e6"]]
    assert log.total == 7


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", [{"user_id": "u", "item_id": "i", "event_type": "view"}])
    with pytest.raises(LogFileError, match=r"events.parquet: columns .*; expected also event_time"):
        event_log(path)


@pytest.mark.parametrize("name", ["absent.parquet", "events.xlsx"])
def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "events.xlsx").write_text("?")
    with pytest.raises(LogFileError, match="expected"):
        event_log(tmp_path / name)


def test_catalogue_items_keep_unknown_columns_as_attributes(tmp_path: Path) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text("item_id,title,category,price,colour\n7,Mug,Home > Kitchen,2.5,red\n8,,,,\n,Nameless,,,\n")
    catalog = catalog_file(path)
    (items,) = catalog
    assert [(item.item_id, item.title, item.category, item.price) for item in items] == [
        ("7", "Mug", ("Home", "Kitchen"), 2.5),
        ("8", "", (), None),
    ]
    assert items[0].attributes == {"colour": "red"}
    assert (catalog.unreadable, catalog.problems) == (1, ["row 3: item_id is missing"])


CHINESE = "user_id,item_id,event_type,event_time,query\nu1,a,search,2026-01-31T12:00:00Z,防晒霜\n"


def queries(path: Path, encoding: str | None) -> list[str]:
    return [event.fields["query"] for chunk in event_log(path, encoding=encoding) for event in chunk]


def test_a_csv_is_read_in_the_encoding_that_it_is_said_to_have(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    for encoding in ("gb18030", "gbk", "utf-16", "big5"):
        text = CHINESE if encoding != "big5" else CHINESE.replace("防晒霜", "防曬霜")
        path.write_bytes(text.encode(encoding))
        assert queries(path, encoding) == [text.split(",")[-1].strip()]
    path.write_bytes(CHINESE.encode("gb18030"))
    (unreadable,) = queries(path, None)  # as before: U+FFFD
    assert "\ufffd" in unreadable
    items = tmp_path / "items.csv"
    items.write_bytes("item_id,title,品牌\na,红色马克杯,某某\n".encode("gb18030"))
    [[item]] = catalog_file(items, encoding="gb18030")
    assert (item.title, item.attributes) == ("红色马克杯", {"品牌": "某某"})


def test_bytes_that_the_encoding_does_not_know_and_encodings_that_nobody_knows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(CHINESE.encode("gb18030"))
    with pytest.raises(LogFileError, match=r"events\.csv: bytes b7, which are not utf-8; expected a file in utf-8"):
        queries(path, "utf-8")
    rows = b"u2,b,view,2026-01-31T12:00:01Z,tea\n" * 20_000
    path.write_bytes(CHINESE.encode("gb18030") + rows + b"u3,c,search,2026-01-31T12:00:02Z,\xff\n")
    log = event_log(path, encoding="gb18030")  # the header is fine
    with pytest.raises(LogFileError, match="bytes ff, which are not gb18030"):
        log.count()
    for name in ("klingon", "hex"):
        with pytest.raises(LogFileError, match=f"{name}.*expected an encoding such as utf-8 or gb18030"):
            event_log(path, encoding=name)
