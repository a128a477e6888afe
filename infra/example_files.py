"""Examples of tasks on disk: JSON lines, CSV or Parquet, one field a column."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from learners.tasks.task import Task

Rows = list[dict[str, Any]]
_ENCODING = "utf-8-sig"  # spreadsheets begin a file with a mark


def read_examples(path: Path, task: Task) -> Rows:
    """Return a file's rows, oldest first; what the task asks for as a number is one, where it can be read as one.

    Args:
        path: `.jsonl`, `.json` (lines, too), `.csv` or `.parquet`.
        task: Says which fields are numbers.

    Raises:
        UsageError: If the file is of another kind or cannot be read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise UsageError(f"EXAMPLES is {str(path)!r}; expected a file that exists, of {', '.join(_READERS)}")
    try:
        rows = reader(path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"EXAMPLES is {str(path)!r}; expected rows that can be read: {error}") from error
    numeric = {*task.numbers, *(() if task.kind == "classify" else (task.target,))}
    return [{name: _number(value) if name in numeric else value for name, value in row.items()} for row in rows]


def write_lines(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, the folder made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _number(value: Any) -> Any:
    """A CSV's text as the number that it is; what is none stays, and is rejected with its reason.

    >>> _number("2.5"), _number(""), _number("many"), _number(3)
    (2.5, None, 'many', 3)
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return float(value)
    except ValueError:
        return value


def _lines(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text(encoding=_ENCODING).split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is no JSON object")
    return rows


def _csv(path: Path) -> Rows:
    with path.open(encoding=_ENCODING, newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only where it is used

    rows: Rows = pq.read_table(path).to_pylist()
    return rows


_READERS = {".jsonl": _lines, ".json": _lines, ".csv": _csv, ".parquet": _parquet}
