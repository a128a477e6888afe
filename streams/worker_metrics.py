"""What a worker counts for Prometheus; the ledger in Postgres, not these, is what reports read."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("alluvium_events", "Clickstream records by what became of them.", ["outcome"])
FLUSH_SECONDS = Histogram(
    "alluvium_flush_seconds",
    "Seconds from a batch's arrival to its Postgres transaction's end.",
    ["topic"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
BATCH_RECORDS = Histogram(
    "alluvium_batch_records", "Records in one flush.", ["topic"], buckets=(1, 10, 50, 100, 500, 1000, 2000, 5000, 10000)
)
FRESHNESS_SECONDS = Histogram(
    "alluvium_freshness_seconds",
    "Seconds from the oldest event's Kafka timestamp to its effect.",
    ["effect"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
RANKINGS = Counter("alluvium_rankings", "Rankings published.", ["cause"])
RANKING_SECONDS = Histogram(
    "alluvium_ranking_seconds",
    "Seconds to rank one batch of people.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
ACTIVE_USERS_WAITING = Gauge("alluvium_active_users_waiting", "People who wait for a fresh ranking.")
ACTIVE_USERS_LET_GO = Gauge("alluvium_active_users_let_go", "People whose fresh ranking was given up under load.")
MODEL_VERSION = Gauge("alluvium_model_version", "The release that ranks; 0 before the first.")
RELEASES_REFUSED = Counter("alluvium_releases_refused", "Releases that could not be loaded; the incumbent served on.")
REASONS_MISSED = Counter("alluvium_reasons_missed", "Batches of rankings whose reasons the graph did not give in time.")
SHARED_RECORDS = Counter("alluvium_shared_records", "Records read by every worker.", ["topic"])
SHARED_REJECTED = Counter("alluvium_shared_rejected", "Unreadable records of shared topics.", ["topic"])
ITEMS_KNOWN = Gauge("alluvium_items", "Items of the catalogue.")
FOREIGN_USERS = Counter("alluvium_foreign_users", "Users from a second partition; `alluvium doctor` explains.")
