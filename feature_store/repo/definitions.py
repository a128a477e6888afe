"""Entities, push sources and narrow feature views: a few packed arrays each, since Postgres keeps a row per feature.

The layouts of the arrays are those of `feature_store.users` and `feature_store.items`; `unpack.py` names their parts.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field, FileSource, PushSource
from feast.types import Array, Float64, Int64, PrimitiveFeastType, String
from feast.value_type import ValueType

Features = dict[str, "Array | PrimitiveFeastType"]

USER_ID, ITEM_ID = "user_id", "item_id"
USER_ACTIVITY, USER_HISTORY, USER_AFFINITY = "user_activity", "user_history", "user_affinity"
ITEM_ACTIVITY = "item_activity"
EVENT_TIMESTAMP, CREATED = "event_timestamp", "created"

NO_TTL = timedelta(0)  # a person who comes back after a year still has their history; decay takes care of age

_FEATURES: dict[str, tuple[str, str, Features]] = {
    USER_ACTIVITY: (
        USER_ID,
        "Decayed counters by event type and half-life; lifetime counts, last event and session.",
        {"decayed": Array(Float64), "counts": Array(Int64)},
    ),
    USER_HISTORY: (
        USER_ID,
        "The last interactions, oldest first: item_ids, and beside each time_ms << 8 | event type.",
        {"items": Array(String), "moments": Array(Int64)},
    ),
    USER_AFFINITY: (
        USER_ID,
        "Categories and brands, and of each its decayed weight and the time in ms that it is valid at.",
        {"names": Array(String), "weights": Array(Float64)},
    ),
    ITEM_ACTIVITY: (
        ITEM_ID,
        "Decayed counters by event type and half-life; lifetime counts and last event.",
        {"decayed": Array(Float64), "counts": Array(Int64)},
    ),
}
VIEW_NAMES = tuple(_FEATURES)


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Everything of the repo that does not compute: what `feast apply` registers."""

    entities: tuple[Entity, ...]
    views: tuple[FeatureView, ...]
    push_sources: tuple[PushSource, ...]

    def view(self, name: str) -> FeatureView:
        """Give the view called `name`."""
        return next(view for view in self.views if view.name == name)


def define(*, history_dir: Path = Path("history")) -> Definitions:
    """Build the definitions.

    Args:
        history_dir: Folder of the point-in-time history; each view's Parquet parts lie in a folder of its name.

    >>> [view.name for view in define().views]
    ['user_activity', 'user_history', 'user_affinity', 'item_activity']
    """
    user = Entity(name="user", join_keys=[USER_ID], value_type=ValueType.STRING, description="A visitor of the shop.")
    item = Entity(name="item", join_keys=[ITEM_ID], value_type=ValueType.STRING, description="Something it sells.")
    by_key = {USER_ID: user, ITEM_ID: item}
    views, sources = [], []
    for name, (join_key, description, features) in _FEATURES.items():
        parts = FileSource(
            name=f"{name}_parts",
            path=str(history_dir / name),
            timestamp_field=EVENT_TIMESTAMP,
            created_timestamp_column=CREATED,
            description="Append-only Parquet parts.",
        )
        source = PushSource(name=f"{name}_push", batch_source=parts, description="For writers other than Alluvium.")
        views.append(
            FeatureView(
                name=name,
                entities=[by_key[join_key]],
                schema=[Field(name=join_key, dtype=String)]
                + [Field(name=feature, dtype=dtype) for feature, dtype in features.items()],
                source=source,
                ttl=NO_TTL,
                online=True,
                description=description,
            )
        )
        sources.append(source)
    return Definitions(entities=(user, item), views=tuple(views), push_sources=tuple(sources))
