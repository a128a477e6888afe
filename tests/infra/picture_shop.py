"""Shops whose items all have one title: only pictures tell them apart, and everybody keeps to one colour."""

import json
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from infra.settings import leaves

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 200), "yellow": (220, 200, 50)}
SETTINGS = {
    "MODEL__TEXT_ENCODER": "hash",
    "MODEL__WIDTH": "16",
    "MODEL__LAYERS": "1",
    "MODEL__HEADS": "1",
    "MODEL__HISTORY_LENGTH": "8",
    "MODEL__SPARE_ROWS": "0",
    "LEARNING__BATCH_ROWS": "8",
    "LEARNING__FIRST_BATCH_ROWS": "4",
    "LEARNING__FIRST_EPOCHS": "20",
    "LEARNING__EPOCHS": "4",
    "LEARNING__THREADS": "1",
    "LEARNING__ROUND_INTERACTIONS": "100",
    "GATE__POPULARITY_FLOOR": "0",
    "GATE__WINDOW": "40",
}


def settings(monkeypatch: pytest.MonkeyPatch, folder: Path, *, pictures: bool = True) -> None:
    """Set a small model, with or without pictures; they and the data lie below the folder."""
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"ALLUVIUM_{name}", value)
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("ALLUVIUM_MODEL__PICTURE_FOLDER", str(folder))
    monkeypatch.setenv("ALLUVIUM_MODEL__IMAGE_ENCODER", "statistics" if pictures else "none")


def shop(
    folder: Path, name: str, *, colours: tuple[str, ...] = tuple(COLOURS), items: int, people: int, visits: int = 5
) -> tuple[Path, Path]:
    """Write a log, a catalogue and a picture of every item.

    Args:
        folder: Where to.
        name: Of the shop; begins its ids.
        colours: Of its items.
        items: Of each colour.
        people: Each keeps to one colour, and buys nothing twice.
        visits: Purchases of each of them.
    """
    rng = random.Random(name)
    sold: dict[str, list[str]] = {colour: [] for colour in colours}
    listed = []
    (folder / name).mkdir(parents=True)
    for number in range(items * len(colours)):
        colour, item_id = colours[number % len(colours)], f"{name}-{number}"
        sold[colour].append(item_id)
        draw(folder / name / f"{number}.png", colour, rng)
        listed.append({"item_id": item_id, "title": "vase", "image": f"{name}/{number}.png"})
    events, waiting = [], []
    for person in range(people):
        bought = rng.sample(sold[colours[person % len(colours)]], visits)
        waiting.append([{"user_id": f"{name}-{person}", "item_id": one, "event_type": "purchase"} for one in bought])
    while waiting:  # at most a dozen people at a time: others come when they have gone
        one = rng.choice(waiting[:12])
        events.append(one.pop() | {"event_time": 1_700_000_000 + 60 * len(events)})
        waiting = [each for each in waiting if each]
    return lines(folder / f"{name}.jsonl", events), lines(folder / f"{name}-items.jsonl", listed)


def draw(path: Path, colour: str, rng: random.Random) -> None:
    """Draw a vase: its shade, place and size are its own."""
    shade = tuple(max(0, min(255, part + rng.randint(-25, 25))) for part in COLOURS[colour])
    picture = Image.new("RGB", (32, 32), (rng.randint(220, 255),) * 3)
    left, top = rng.randint(2, 10), rng.randint(2, 10)
    ImageDraw.Draw(picture).ellipse((left, top, left + rng.randint(14, 20), top + rng.randint(14, 20)), fill=shade)
    picture.save(path)


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write JSON lines."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
