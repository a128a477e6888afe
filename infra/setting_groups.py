"""The groups of settings: every field bounded, described, and frozen once read."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Strategy = Literal[
    "default",
    "naive",
    "none",
    "reservoir",
    "recency",
    "stratified",
    "herding",
    "der++",
    "ader",
    "ewc",
    "l2",
    "window",
    "retrain",
    "lora",
    "reptile",
    "fgm",
    "augmentation",
    "text_augmentation",
]
Share = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Group(BaseModel):
    """A frozen group; a name it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class KafkaSettings(Group):
    """Which Kafka, and how to log in."""

    bootstrap_servers: str | None = Field(None, description="host:port,...; none: an embedded broker")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how brokers are spoken to"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="needed with SASL_*"
    )
    sasl_username: str | None = Field(None, description="needed with SASL_*")
    sasl_password: SecretStr | None = Field(None, description="needed with SASL_*")
    ssl_cafile: Path | None = Field(None, description="authority certificate (PEM); none: the system's authorities")
    partitions: int = Field(4, ge=1, le=1024, description="partitions of topics keyed by user or item")
    replication_factor: int = Field(1, ge=1, le=9, description="copies of each partition, for `topics apply`")
    session_timeout_s: float = Field(
        45, ge=1, le=600, description="a worker silent for this long gives its partitions to others"
    )
    instance_id: str | None = Field(
        None,
        min_length=1,
        description="a worker's lasting name: restarted in time it moves no partitions",
    )

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if self.security_protocol.startswith("SASL_"):
            for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is missing; expected a value because security_protocol is SASL_*")
        if self.ssl_cafile is not None and not self.ssl_cafile.is_file():
            raise ValueError(f"ssl_cafile is {str(self.ssl_cafile)!r}; expected a file that exists")
        return self


class PostgresSettings(Group):
    """Which Postgres."""

    url: SecretStr | None = Field(None, description="postgresql://user:password@host/database; none: embedded")

    @model_validator(mode="after")
    def _is_postgres(self) -> Self:
        if self.url is not None and not self.url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("url does not begin with postgresql://; expected postgresql://user:password@host/database")
        return self


class IngestSettings(Group):
    """From bytes to features."""

    max_batch_events: int = Field(20_000, ge=1, le=100_000, description="most events in one flush")
    linger_ms: int = Field(100, ge=0, le=1_000, description="how long a flush waits to fill up")
    allowed_lateness_s: int = Field(3_600, ge=0, le=30 * 86_400, description="older than the user's newest event: late")
    allowed_skew_s: int = Field(300, ge=0, le=86_400, description="further ahead of its Kafka timestamp: rejected")
    dedupe_window: int = Field(50_000, ge=0, le=5_000_000, description="recent event_ids remembered per partition")
    cache_users: int = Field(200_000, ge=1_000, le=50_000_000, description="users held in a worker's memory")
    cache_items: int = Field(100_000, ge=1_000, le=50_000_000, description="items held in a worker's memory")


class FeaturesSettings(Group):
    """What is kept of each user and item."""

    history_length: int = Field(50, ge=1, le=500, description="interactions kept per user")
    write_history: bool = Field(
        default=True, description="append point-in-time history to Parquet under the data folder"
    )


class RankingSettings(Group):
    """What comes out."""

    top_k: int = Field(20, ge=1, le=1_000, description="places of a ranking that does not ask for another number")
    linger_ms: int = Field(200, ge=0, le=10_000, description="how long active users gather before they are ranked")
    max_users: int = Field(256, ge=1, le=10_000, description="most users ranked at once")
    item_expiry_days: float | None = Field(
        None, gt=0, le=3_650, description="an item nobody turned to for so long is not ranked until somebody does"
    )


class ModelSettings(Group):
    """The shared model's shape; changing it starts a new line of releases."""

    width: int = Field(64, ge=8, le=1_024, description="D, numbers in an item or user vector; a multiple of heads")
    layers: int = Field(2, ge=1, le=12, description="attention blocks")
    heads: int = Field(2, ge=1, le=16, description="attention heads")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of numbers dropped while training")
    history_length: int = Field(50, ge=2, le=500, description="L, interactions that the model reads")
    text_encoder: str = Field("minilm", min_length=1, description="minilm (offline), hash, a path or a hub name")
    image_encoder: str = Field(
        "none",
        min_length=1,
        description="of items' pictures: none, statistics or trained (built in), a path or a hub name",
    )
    picture_folder: Path | None = Field(
        None, description="where the catalogue's picture paths begin; none: pictures/ in the data folder"
    )
    picture_network: bool = Field(default=False, description="fetch pictures from http and https addresses, too")
    attributes: bool = Field(default=False, description="tell the model of category, brand, price, ... beside the text")
    spare_rows: int = Field(1_024, ge=0, le=10_000_000, description="embedding rows kept free for new items")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of heads ({self.heads})")
        return self


class LearningSettings(Group):
    """When and how a round trains."""

    round_interactions: int = Field(8_000, ge=100, le=100_000_000, description="a round after this many interactions")
    round_interval_s: float | None = Field(None, gt=0, le=30 * 86_400, description="and after this time; none: not")
    round_on_drift: bool = Field(default=True, description="and after a drift alarm")
    strategy: Strategy = Field("default", description="how old knowledge is kept; see docs/learning.md")
    logger: Literal["none", "tensorboard", "wandb", "mlflow"] = Field(
        "none", description="who is told of each round; writes below the data folder"
    )
    replay_capacity: int = Field(50_000, ge=100, le=50_000_000, description="interactions kept to learn from again")
    replay_rows: int = Field(
        384, ge=0, le=1_000_000, description="replayed histories in a round; fewer after few interactions"
    )
    epochs: int = Field(2, ge=1, le=100, description="most passes over a round's rows")
    first_epochs: int = Field(24, ge=1, le=1_000, description="the same for a round that starts from scratch")
    batch_rows: int = Field(16, ge=1, le=65_536, description="histories per optimizer step")
    first_batch_rows: int = Field(32, ge=1, le=65_536, description="the same for a round that starts from scratch")
    learning_rate: float = Field(6e-3, gt=0, le=1, description="eta_0 of a fine-tuning round")
    adam_epsilon: float = Field(5e-4, gt=0, le=1, description="AdamW's, in a fine-tuning round")
    distillation: float = Field(1.0, ge=0, le=100, description="weight of staying close to the incumbent; 0: off")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where rounds train; auto: CUDA if there is one")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of the training process")
    round_timeout_s: float = Field(600, gt=0, le=86_400, description="a round that takes longer is killed")
    checkpoint_interval_s: float = Field(10, gt=0, le=3_600, description="how often the learner's state is saved")
    metrics_window: int = Field(1_000, ge=1, le=10_000_000, description="interactions per published quality figure")


class GateSettings(Group):
    """When a candidate may serve, and when its predecessor returns."""

    window: int = Field(1_000, ge=10, le=1_000_000, description="newest interactions that judge a candidate")
    max_regression: Share = Field(0.05, description="forgiven fall of NDCG@10 on the newest window, relative")
    max_forgetting: Share = Field(0.10, description="the same on frozen history")
    noise: float = Field(1.0, ge=0, le=10, description="forgiven standard errors of the paired difference")
    popularity_floor: float = Field(
        0.5, ge=0, le=10, description="share of popularity's NDCG@10 that a first release needs"
    )
    min_targets: int = Field(50, ge=1, le=1_000_000, description="fewer targets are no evidence")
    shadow_interactions: int = Field(2_000, ge=0, le=10_000_000, description="how long a predecessor goes on scoring")


class DriftSettings(Group):
    """When a change is called drift."""

    delta: float = Field(0.002, gt=0, lt=1, description="ADWIN's confidence; smaller means fewer alarms")
    warning_delta: float = Field(0.05, gt=0, lt=1, description="the same for warnings; above delta")
    cooldown_interactions: int = Field(2_000, ge=0, le=100_000_000, description="silence after an alarm")

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warning_delta <= self.delta:
            raise ValueError(f"warning_delta is {self.warning_delta}; expected above delta ({self.delta})")
        return self


_DEPOSITS = "adapter|item_embeddings|prototypes|graph_edges|fisher|exemplars|user_embeddings"


class KnowledgeSettings(Group):
    """What outlives models, and where it lies."""

    accumulate: bool = Field(default=True, description="keep what each released round learned")
    kinds: str = Field(
        "adapter,item_embeddings,prototypes,graph_edges",
        pattern=rf"^({_DEPOSITS})(,({_DEPOSITS}))*$",
        description="what is kept; also fisher, teacher_logits, exemplars, user_embeddings",
    )
    reuse: int = Field(3, ge=0, le=20, description="most kept entries tried as a first round's start; 0: from scratch")
    task: str = Field("sequence", pattern=r"^[\w.:/@+-]{1,200}$", description="names the task that entries are of")
    graph: bool = Field(default=False, description="grow the knowledge graph from catalogue and stream")
    graph_half_life_days: float = Field(30, gt=0, le=36_500, description="a learned edge halves in this time")
    graph_edges_per_node: int = Field(50, ge=1, le=10_000, description="most edges of a node and relation")
    url: str | None = Field(None, min_length=1, description="artifacts: any fsspec URL; none: under the data folder")
    max_bytes: int = Field(2 * 2**30, ge=0, le=2**50, description="most bytes of artifacts that a collection leaves")
    max_age_days: float | None = Field(None, gt=0, le=36_500, description="older entries go by age alone; none: not")
    half_life_days: float = Field(30, gt=0, le=36_500, description="an entry is worth half as much after this time")
    signing_key: Path | None = Field(None, description="Ed25519 private key (PEM) that signs exports")
    trusted_keys: Path | None = Field(None, description="public key (PEM), or a folder of them, that imports believe")
    import_max_bytes: int = Field(2**30, ge=0, le=2**50, description="most bytes of an imported archive's artifacts")


class HttpSettings(Group):
    """Where /healthz and /metrics answer."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 inside a container")
    worker_port: Port = Field(6066, description="the worker's port")
    learner_port: Port = Field(6067, description="the learner's port")
