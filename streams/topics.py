"""The topics: names, keys, partitions and cleanup, in the order the data flows (DESIGN section 2)."""

from dataclasses import dataclass

CLICKSTREAM_EVENTS = "clickstream.events"
CATALOG_ITEMS = "catalog.items"
RANKING_REQUESTS = "ranking.requests"
SEARCH_REQUESTS = "search.requests"
USERS_ERASURES = "users.erasures"
RECOMMENDATIONS_RANKINGS = "recommendations.rankings"
SEARCH_RANKINGS = "search.rankings"
QUALITY_METRICS = "quality.metrics"
DRIFT_METRICS = "drift.metrics"
MODELS_RELEASES = "models.releases"
INTERACTIONS_VALIDATED = "interactions.validated"
INTERACTIONS_BY_ITEM = "interactions.by_item"
EXPERTS_UPDATES = "experts.updates"
TASKS_EXAMPLES = "tasks.examples"
TASKS_PREDICTIONS = "tasks.predictions"

DLQ_SUFFIX = ".dlq"
DLQ_HEADROOM_BYTES = 64 * 1024  # headers and key on top of a payload as large as the source topic allows
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """One topic as `alluvium topics apply` creates it and `alluvium topics verify` checks it.

    `partitions` None means "as many as clickstream.events", which co-partitioning needs.
    """

    name: str
    partitions: int | None = None
    compacted: bool = False
    retention_ms: int | None = None
    dead_letters: bool = False

    @property
    def dlq(self) -> str:
        """The topic that takes what this one's consumers reject."""
        return self.name + DLQ_SUFFIX


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(name=CLICKSTREAM_EVENTS, retention_ms=29 * DAY_MS, dead_letters=True),
    TopicSpec(name=CATALOG_ITEMS, compacted=True, dead_letters=True),
    TopicSpec(name=RANKING_REQUESTS, retention_ms=DAY_MS, dead_letters=True),
    TopicSpec(name=SEARCH_REQUESTS, retention_ms=DAY_MS, dead_letters=True),
    TopicSpec(name=USERS_ERASURES, compacted=True, dead_letters=True),
    TopicSpec(name=RECOMMENDATIONS_RANKINGS, retention_ms=7 * DAY_MS),
    TopicSpec(name=SEARCH_RANKINGS, retention_ms=DAY_MS),
    TopicSpec(name=QUALITY_METRICS, partitions=1, retention_ms=90 * DAY_MS),
    TopicSpec(name=DRIFT_METRICS, partitions=1, retention_ms=90 * DAY_MS),
    TopicSpec(name=MODELS_RELEASES, partitions=1, compacted=True),
    TopicSpec(name=INTERACTIONS_VALIDATED, retention_ms=29 * DAY_MS),
    TopicSpec(name=INTERACTIONS_BY_ITEM, retention_ms=29 * DAY_MS, dead_letters=True),
    TopicSpec(name=EXPERTS_UPDATES, partitions=1, compacted=True),
    TopicSpec(name=TASKS_EXAMPLES, retention_ms=29 * DAY_MS, dead_letters=True),
    TopicSpec(name=TASKS_PREDICTIONS, retention_ms=7 * DAY_MS),
)


def all_topics(*, partitions: int) -> dict[str, int]:
    """Every topic that must exist, dead-letter topics included, with its number of partitions.

    >>> all_topics(partitions=4)["clickstream.events.dlq"], all_topics(partitions=4)["models.releases"]
    (4, 1)
    """
    counts: dict[str, int] = {}
    for topic in TOPICS:
        counts[topic.name] = topic.partitions or partitions
        if topic.dead_letters:
            counts[topic.dlq] = topic.partitions or partitions
    return counts
