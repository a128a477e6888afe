"""On-demand views: the packed arrays under readable names, for whoever reads Feast without knowing the layouts.

Feast stores a view's function by value, and a reader's process need not have this package: the functions below use
nothing but their arguments and their own constants.
"""

from typing import Any

from feast import Field, OnDemandFeatureView
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String

from feature_store.decay import HALF_LIFE_NAMES
from feature_store.event_types import EVENT_TYPES
from feature_store.repo.definitions import ITEM_ACTIVITY, USER_ACTIVITY, USER_HISTORY, Definitions

_COUNTS = [Field(name=f"{name}_count", dtype=Int64) for name in EVENT_TYPES]
_DECAYED = [Field(name=f"{name}_{half}", dtype=Float64) for name in EVENT_TYPES for half in HALF_LIFE_NAMES]
_LAST = Field(name="last_event_ms", dtype=Int64)


def unpacking_views(definitions: Definitions) -> list[OnDemandFeatureView]:
    """Build the on-demand views over `definitions`.

    `user_counters` and `item_counters` give lifetime counts (`purchase_count`), decayed counts as of the last event
    of any type (`purchase_14d`) and `last_event_ms`; users also have their session, items smoothed `ctr` and `cvr`.
    `user_interactions` gives the history's `item_ids`, `times_ms` and `event_types`. Whoever was never seen gets
    zeros.
    """

    @on_demand_feature_view(
        sources=[definitions.view(USER_ACTIVITY)],
        schema=[
            *_COUNTS,
            *_DECAYED,
            _LAST,
            Field(name="session_start_ms", dtype=Int64),
            Field(name="session_events", dtype=Int64),
        ],
        mode="python",
    )
    def user_counters(inputs: dict[str, Any]) -> dict[str, Any]:
        types = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
        half_lives = (("1h", 3.6e6), ("1d", 8.64e7), ("14d", 1.2096e9))
        rows = list(zip(inputs["decayed"], inputs["counts"], strict=True))
        counts = [list(row[1]) if row[1] is not None and len(row[1]) == 11 else [0] * 11 for row in rows]
        decayed = [list(row[0]) if row[0] is not None and len(row[0]) == 32 else [0.0] * 32 for row in rows]
        out: dict[str, Any] = {}
        for code, name in enumerate(types):
            out[f"{name}_count"] = [row[code] for row in counts]
            for index, (half_life, half_life_ms) in enumerate(half_lives):
                out[f"{name}_{half_life}"] = [
                    block[4 * code + index] * 2.0 ** (-max(row[8] - block[4 * code + 3], 0.0) / half_life_ms)
                    if block[4 * code]
                    else 0.0
                    for block, row in zip(decayed, counts, strict=True)
                ]
        for index, name in ((8, "last_event_ms"), (9, "session_start_ms"), (10, "session_events")):
            out[name] = [row[index] for row in counts]
        return out

    @on_demand_feature_view(
        sources=[definitions.view(ITEM_ACTIVITY)],
        schema=[*_COUNTS, *_DECAYED, _LAST, Field(name="ctr", dtype=Float64), Field(name="cvr", dtype=Float64)],
        mode="python",
    )
    def item_counters(inputs: dict[str, Any]) -> dict[str, Any]:
        types = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
        half_lives = (("1h", 3.6e6), ("1d", 8.64e7), ("14d", 1.2096e9))
        # A rate starts from its prior and needs about this many showings (or visits) to leave it.
        ctr_prior, cvr_prior, strength = 0.05, 0.02, 20.0
        rows = list(zip(inputs["decayed"], inputs["counts"], strict=True))
        counts = [list(row[1]) if row[1] is not None and len(row[1]) == 9 else [0] * 9 for row in rows]
        decayed = [list(row[0]) if row[0] is not None and len(row[0]) == 32 else [0.0] * 32 for row in rows]
        out: dict[str, Any] = {}
        for code, name in enumerate(types):
            out[f"{name}_count"] = [row[code] for row in counts]
            for index, (half_life, half_life_ms) in enumerate(half_lives):
                out[f"{name}_{half_life}"] = [
                    block[4 * code + index] * 2.0 ** (-max(row[8] - block[4 * code + 3], 0.0) / half_life_ms)
                    if block[4 * code]
                    else 0.0
                    for block, row in zip(decayed, counts, strict=True)
                ]
        out["last_event_ms"] = [row[8] for row in counts]
        clicked, shown = out["click_14d"], out["impression_14d"]
        out["ctr"] = [
            (clicks + ctr_prior * strength) / (max(showings, clicks) + strength)
            for clicks, showings in zip(clicked, shown, strict=True)
        ]
        visited = [views + clicks for views, clicks in zip(out["view_14d"], clicked, strict=True)]
        out["cvr"] = [
            (bought + cvr_prior * strength) / (max(visits, bought) + strength)
            for bought, visits in zip(out["purchase_14d"], visited, strict=True)
        ]
        return out

    @on_demand_feature_view(
        sources=[definitions.view(USER_HISTORY)],
        schema=[
            Field(name="item_ids", dtype=Array(String)),
            Field(name="times_ms", dtype=Array(Int64)),
            Field(name="event_types", dtype=Array(String)),
        ],
        mode="python",
    )
    def user_interactions(inputs: dict[str, Any]) -> dict[str, Any]:
        types = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
        items = [[] if row is None else list(row) for row in inputs["items"]]
        moments = [[] if row is None else list(row) for row in inputs["moments"]]
        return {
            "item_ids": items,
            "times_ms": [[moment >> 8 for moment in row] for row in moments],
            "event_types": [[types[moment & 255] for moment in row] for row in moments],
        }

    return [user_counters, item_counters, user_interactions]
