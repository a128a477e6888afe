"""A shop's catalogue as files: its items, and what describes them, with progress."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.composition import describers
from infra.settings import Settings
from learners.items import shelf
from learners.items.shelf import Shelf, shelf_of
from streams.eventlog import catalog_file

ITEM_FIELDS = ("item_id", "title", "description", "category", "brand", "price", "attributes", "image")


def read_items(catalogs: Sequence[Path], *, encoding: str | None = None) -> list[dict[str, Any]]:
    """Return the items of catalogues, as `Catalog.upsert` takes them.

    Args:
        catalogs: The files; the same item in two of them is one item, and the later one describes it.
        encoding: Of CSV files; None: UTF-8.

    Raises:
        LogFileError: If a file cannot be read.
    """
    chunks = (chunk for path in catalogs for chunk in catalog_file(path, encoding=encoding))
    return [{name: getattr(item, name) for name in ITEM_FIELDS} for chunk in chunks for item in chunk]


def read_shelf(catalogs: Sequence[Path], settings: Settings, *, console: Console, encoding: str | None = None) -> Shelf:
    """Return the items of catalogues and what the live learner would be told of them, by the same settings.

    Texts are encoded and pictures looked at before it returns; vectors are remembered in the data folder.

    Args:
        catalogs: See `read_items`.
        settings: All settings.
        console: Where progress goes, and what became of pictures.
        encoding: See `read_items`.

    Raises:
        LogFileError: If a file cannot be read.
        EncoderUnavailableError: If an encoder's weights are nowhere to be found.
    """
    items = read_items(catalogs, encoding=encoding)
    with _shown(console) as progress:
        found = shelf_of(items, describers(settings), progress=progress)
    if found.pictures is not None:
        console.print(looked_at(found.pictures))
    return found


def looked_at(pictures: Mapping[str, int]) -> str:
    """Say what became of pictures.

    >>> looked_at({"encoded": 38, "missing": 1, "unreadable": 2})
    'pictures: 38 looked at, 3 rejected (missing 1, unreadable 2)'
    >>> looked_at({})
    'pictures: 0 looked at, 0 rejected'
    """
    rejected = {reason: count for reason, count in sorted(pictures.items()) if reason != "encoded"}
    reasons = f" ({', '.join(f'{reason} {count}' for reason, count in rejected.items())})" if rejected else ""
    return f"pictures: {pictures.get('encoded', 0)} looked at, {sum(rejected.values())} rejected{reasons}"


def progress_bar(console: Console) -> Progress:
    """Return what shows how far something is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


@contextmanager
def _shown(console: Console) -> Iterator[shelf.Progress]:
    with progress_bar(console) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield progress
