"""How large a demo is, and the settings it runs with."""

import os
import shutil
from dataclasses import dataclass
from typing import Any

from infra.settings import Settings, load_settings

# Smaller rounds and windows than a shop would want, so that a few minutes hold several releases.
DEMO_SETTINGS = {
    "ALLUVIUM_LEARNING__ROUND_INTERACTIONS": 2_000,
    "ALLUVIUM_LEARNING__REPLAY_CAPACITY": 20_000,
    "ALLUVIUM_LEARNING__CHECKPOINT_INTERVAL_S": 30.0,
    "ALLUVIUM_GATE__WINDOW": 500,
    "ALLUVIUM_DRIFT__COOLDOWN_INTERACTIONS": 500,
    "ALLUVIUM_DRIFT__DELTA": 0.01,
    "ALLUVIUM_MODEL__SPARE_ROWS": 256,
}


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The size of a demo.

    Args:
        duration_s: Wall time of the traffic; starting and the report come on top. At least 5.
        seed: Same seed, same shop, same visitors, same drift.
        visitors: Size of the crowd; at least 20.
        visits_per_s: Visits per wall second.
        nouns: Products per department and style, 1 to 10.
        control_share: Share of visitors who never see a published ranking.
        places: Length of the list on the home page.

    Raises:
        ValueError: If a size is out of bounds.
    """

    duration_s: float = 200.0
    seed: int = 0
    visitors: int = 600
    visits_per_s: float = 24.0
    nouns: int = 10
    control_share: float = 0.4
    places: int = 10

    def __post_init__(self) -> None:
        if self.duration_s < 5:
            raise ValueError(f"duration_s is {self.duration_s}; expected at least 5")
        if self.visitors < 20:
            raise ValueError(f"visitors is {self.visitors}; expected at least 20")


def demo_settings(**overrides: Any) -> Settings:
    """The settings of a demo: those given, else the environment's, else `DEMO_SETTINGS`, else the defaults."""
    nested: dict[str, Any] = {}
    for variable, value in DEMO_SETTINGS.items():
        if variable not in os.environ:
            group, name = variable.removeprefix("ALLUVIUM_").lower().split("__")
            nested.setdefault(group, {})[name] = value
    for name, value in overrides.items():
        if isinstance(value, dict):
            nested.setdefault(name, {}).update(value)
        elif value is not None:
            nested[name] = value
    return load_settings(**nested)


def with_own_folder(settings: Settings) -> Settings:
    """Settings with a data folder for the demo alone; it begins empty wherever the broker or the database does."""
    folder = settings.data_dir / "demo"
    if settings.kafka.bootstrap_servers is None or settings.postgres.url is None:
        shutil.rmtree(folder, ignore_errors=True)
    return settings.model_copy(update={"data_dir": folder})
