"""Small logs and settings for tests that replay through the whole running system."""

import json
import random
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infra.replay.options import ReplayOptions
from infra.replay.run import Intervention, replay
from infra.settings import Settings, load_settings
from streams.eventlog import event_log

ONLINE_RETAIL = Path(__file__).parents[2] / "shared" / "data" / "online_retail"
TYPES = ("view", "click", "cart", "purchase", "purchase", "return", "search", "wishlist")
HOUR_MS = 3_600_000


def online_retail() -> Path:
    """The folder of the shop's log; skips where it is absent."""
    if not ONLINE_RETAIL.is_dir():
        pytest.skip("there is no ../shared/data/online_retail")
    return ONLINE_RETAIL


def dirty_log(path: Path, *, events: int, seed: int = 0) -> Path:
    """The beginning of the shop's log, with every kind of event that must be told apart.

    One in 25 is repeated, one in 25 comes late by days, one in 25 by minutes, one in 50 is invalid, and the event
    types are spread over the vocabulary.
    """
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for chunk in event_log(online_retail() / "events.parquet", limit=events):
        for event in chunk:
            row = event._asdict()
            fields = row.pop("fields")
            row |= {"event_time": row.pop("event_time_ms"), "event_type": draw.choice(TYPES), **fields}
            chance = draw.random()
            if chance < 0.04:
                rows.insert(max(0, len(rows) - draw.randrange(40)), dict(row))
            elif chance < 0.08:
                row["event_time"] -= 50 * HOUR_MS
            elif chance < 0.12:
                row["event_time"] -= draw.randrange(HOUR_MS // 2)
            elif chance < 0.14:
                row["price"] = -1.0
            rows.append(row)
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def toy_settings(data_dir: Path, **groups: Any) -> Settings:
    """Settings with which a round takes a second or two."""
    small: dict[str, Any] = {
        "data_dir": data_dir,
        "model": {"width": 16, "layers": 1, "heads": 1, "history_length": 10, "text_encoder": "hash"},
        "gate": {"window": 100},  # held out of what is learned
        "learning": {"round_interactions": 1_000, "epochs": 1, "first_epochs": 1, "checkpoint_interval_s": 1},
    }
    for name, group in groups.items():
        small[name] = {**small.get(name, {}), **group} if isinstance(group, dict) else group
    return load_settings(**small)


def run_replay(
    events: Path, settings: Settings, *, interventions: Sequence[Intervention] = (), **options: Any
) -> dict[str, Any]:
    """Replay, and give the report; what went wrong is printed for whoever reads the test's output."""
    page = StringIO()
    wanted = ReplayOptions(events=events, catalog=online_retail() / "catalog.parquet", **options)
    report = replay(wanted, settings, console=Console(file=page, width=160), interventions=interventions)
    print(page.getvalue())
    return report
