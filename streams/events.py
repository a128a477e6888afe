"""The wire: one msgspec struct per topic, JSON in UTF-8, each with its `schema_version`.

`docs/asyncapi.yaml` describes them for other teams too; `tests/streams/test_asyncapi.py` holds it to this module.
Times on the wire are RFC 3339 in UTC; inside the code they are integers, milliseconds since 1970 (`_ms`).
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

# Postgres text cannot hold NUL, hence the pattern; the lengths bound every record that is derived from an event.
Id = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00]+\Z")]
EventType = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_.:-]*\Z")]
Moment = Annotated[datetime, Meta(tz=True)]
Title = Annotated[str, Meta(max_length=2_000)]
Money = Annotated[float, Meta(ge=0, lt=1e12)]
Quantity = Annotated[float, Meta(gt=-1e9, lt=1e9)]
Position = Annotated[int, Meta(ge=0, lt=1_000_000)]


HALF_A_MICROSECOND_MS = 5e-4  # a moment has whole microseconds; its float seconds may fall just short of them


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of a moment, what is finer cut off.

    >>> to_ms(datetime.fromisoformat("2026-01-31T12:00:00.123999+00:00"))
    1769860800123
    """
    return int(moment.timestamp() * 1000 + HALF_A_MICROSECOND_MS)


class Wire(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What every record carries."""

    schema_version: Literal[1] = 1


class ClickstreamEvent(Wire, kw_only=True, frozen=True, gc=False):
    """`clickstream.events`, key `user_id`: what a shop's website saw."""

    event_id: Id
    user_id: Id
    item_id: Id
    event_type: EventType
    event_time: Moment
    session_id: Id | None = None
    query: Title | None = None
    ranking_id: Id | None = None
    position: Position | None = None
    price: Money | None = None
    quantity: Quantity | None = None
    context: dict[str, Any] = {}


class CatalogItem(Wire, kw_only=True, frozen=True, gc=False):
    """`catalog.items`, key `item_id`, compacted: what the shop sells; a null value delists the item."""

    item_id: Id
    title: Title = ""
    description: Annotated[str, Meta(max_length=20_000)] = ""
    category: tuple[Title, ...] = ()  # path, widest first
    brand: Title | None = None
    price: Money | None = None
    image: Title | None = None  # URI
    attributes: dict[str, Any] = {}


class RankingRequest(Wire, kw_only=True, frozen=True, gc=False):
    """`ranking.requests`, key `user_id`: rank the catalogue for this person, now."""

    request_id: Id
    user_id: Id
    k: Annotated[int, Meta(ge=1, le=1_000)] | None = None  # None: the setting `ranking.top_k`
    exclude: tuple[Id, ...] = ()  # item_ids that must not be ranked
    surface: EventType | None = None  # where it will be shown: home, category, search, product, cart, checkout, email


class SearchRequest(Wire, kw_only=True, frozen=True, gc=False):
    """`search.requests`, key `user_id`: products for a query."""

    request_id: Id
    user_id: Id
    query: Title
    k: Annotated[int, Meta(ge=1, le=1_000)] | None = None


class Erasure(Wire, kw_only=True, frozen=True, gc=False):
    """`users.erasures`, key `user_id`, compacted: forget this person's events up to `requested_at`."""

    user_id: Id
    requested_at: Moment


class Interaction(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="schema_version",
    tag=SCHEMA_VERSION,
):
    """`interactions.validated` (key `user_id`) and `interactions.by_item` (key `item_id`): what learners consume.

    Written once per event on the hot path, hence `omit_defaults`: a field that is not there has its default.

    `partition` and `offset` are those of the clickstream record; a consumer keeps the highest offset that it applied
    per source partition and drops repeats. `context` stays behind, so that an interaction is bounded in size.
    """

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time_ms: int
    appended_at_ms: int  # the clickstream record's Kafka timestamp
    partition: int
    offset: int
    late: bool = False  # learned from, not served from
    session_id: str | None = None
    query: str | None = None
    ranking_id: str | None = None
    position: int | None = None
    price: float | None = None
    quantity: float | None = None
    surface: str | None = None  # `context.surface` of the event, where it is one that the mixture knows


class RankedItem(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One place of a ranking: the item, its score and why it is there."""

    item_id: str
    score: float
    reason: str  # the expert that contributed most: shared_model, covisitation, popularity, recency, repeat, ...
    because: str | None = None  # in words, from the knowledge graph where it grows and has something to say


class Ranking(Wire, kw_only=True, frozen=True, gc=False):
    """`recommendations.rankings` and `search.rankings`, key `user_id`: the refreshed top-k."""

    ranking_id: str  # deterministic: the same cause gives the same id
    user_id: str
    request_id: str | None = None  # None: refreshed because the person was just active
    model_version: int  # 0: no release yet, fast memory alone
    items: tuple[RankedItem, ...]
    ranked_at_ms: int
    event_watermark_ms: int | None = None  # event_time of the newest event the ranking knows of
    # Kafka timestamp of the OLDEST event that this ranking is the first to know of; freshness is this record's Kafka
    # timestamp minus it. None where no event caused the ranking (a request, a release that was swapped in).
    appended_watermark_ms: int | None = None


class Metric(Wire, kw_only=True, frozen=True, gc=False):
    """`quality.metrics`, key `metric`: one prequential figure over the window since the last one."""

    metric_id: str  # deterministic, so that a repeat after a crash can be dropped
    metric: str  # e.g. "hit_rate_10"
    expert: str  # mixture, shared_model, fast_memory, popularity, ...
    value: float
    count: int  # interactions in the window
    total_value: float  # the same figure since the first interaction
    total_count: int
    model_version: int
    event_time_ms: int  # of the newest interaction in the window
    interactions: int  # interactions scored so far by the learner


class Drift(Wire, kw_only=True, frozen=True, gc=False):
    """`drift.metrics`, key `metric`: a detector's value, and whether it warns or alarms."""

    drift_id: str  # deterministic
    metric: str  # e.g. "hit_rate_10:mixture", "feature:event_gap_s"
    level: Literal["value", "warning", "alarm"]
    value: float
    baseline: float | None = None  # the detector's mean before the change
    event_time_ms: int
    interactions: int


class Release(Wire, kw_only=True, frozen=True, gc=False):
    """`models.releases`, key model name, compacted: a gated, published model. The row in Postgres is the truth."""

    model: str
    version: int
    sequence: int  # rises with every release and rollback; a worker follows the highest
    kind: Literal["release", "rollback"]
    uri: str  # fsspec URI of the immutable directory
    sha256: str  # of the manifest
    parent: int | None
    offsets: dict[str, int]  # clickstream partition -> next offset not yet learned
    metrics: dict[str, float]
    verdict: dict[str, Any]  # the gate's evidence
    triggered_at_ms: int  # when the round was triggered (the rollback decided)
    released_at_ms: int


class ExpertUpdate(Wire, kw_only=True, frozen=True, gc=False):
    """`experts.updates`, key "expert/key", compacted: what workers need of fast memory and of the mixture's weights.

    A null value removes the key.
    """

    expert: str
    key: str
    payload: msgspec.Raw  # JSON, meant for `learners`; its shape belongs to the expert
    interactions: int  # interactions the learner had applied when it wrote this
    updated_at_ms: int


class TaskExample(Wire, kw_only=True, frozen=True, gc=False):
    """`tasks.examples`, key `example_id`: something for a task to answer, and to learn from where it has its label."""

    example_id: Id
    task: Id  # name of the task; whoever works on another leaves it alone
    fields: dict[str, str | float | None]  # what the task's declaration names: inputs, numbers, and the target if known
    user_id: Id | None = None  # whose it is, so that `users.erasures` can have it forgotten


class TaskPrediction(Wire, kw_only=True, frozen=True, gc=False):
    """`tasks.predictions`, key `example_id`: what a task said of an example, before it learned from it."""

    prediction_id: str  # deterministic: a repeat after a crash has the same
    example_id: str
    task: str
    value: str | float  # the likeliest class, or the number
    score: float  # the class's chance, or the number again
    chances: dict[str, float] = {}  # of every class; empty where the answer is a number
    model_version: int  # 0: nothing was learned yet
