"""What the learner counts for Prometheus; its checkpoint and Postgres, not these, are what reports read."""

from prometheus_client import Counter, Gauge, Histogram

INTERACTIONS = Gauge("alluvium_learner_interactions", "Interactions by what became of them.", ["outcome"])
LAG = Gauge("alluvium_learner_lag", "Interactions in Kafka that the learner has not taken in.")
ROUNDS = Gauge("alluvium_learner_rounds", "Learning rounds by outcome.", ["outcome"])
ROUND_RUNNING = Gauge("alluvium_learner_round_running", "1 while a round trains.")
ROLLBACKS = Gauge("alluvium_learner_rollbacks", "Releases taken back.")
ADOPTED_VERSION = Gauge("alluvium_learner_model_version", "The release that the learner scores with; 0: none.")
UPDATES = Gauge("alluvium_expert_updates", "Records of experts.updates written.")
UPDATE_BYTES = Gauge("alluvium_expert_update_bytes", "Their size before compression.")
WAITING = Gauge("alluvium_learner_announcements_waiting", "Records that Kafka has not acknowledged yet.")
PICTURES = Gauge("alluvium_learner_pictures", "Items' pictures by what became of them.", ["outcome"])
QUALITY = Gauge("alluvium_quality", "Prequential quality over the last window.", ["metric", "expert"])
QUALITY_TOTAL = Gauge("alluvium_quality_since_start", "Prequential quality since the start.", ["metric", "expert"])
DRIFTS = Counter("alluvium_drifts", "Drift warnings and alarms.", ["metric", "level"])
CHECKPOINT_SECONDS = Histogram(
    "alluvium_learner_checkpoint_seconds",
    "Seconds that a checkpoint took, from its beginning until it was durable.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
CHECKPOINT_AGE = Gauge("alluvium_learner_checkpoint_age_seconds", "Seconds since the last checkpoint.")
