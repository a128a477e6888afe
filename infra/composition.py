"""From settings to the components' own configurations."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from infra.deployment import kafka_connection
from infra.settings import Settings
from learners.errors import LearnerError
from learners.fast_memory.decay import DAY_MS
from learners.items.attributes import AttributeEncoder
from learners.items.encoder import open_encoder
from learners.items.image import PictureVectors, open_image_encoder
from learners.items.layout import Layout
from learners.items.picture import PictureSource
from learners.items.shelf import Describers
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import FORM_OF
from learners.knowledge.deposits import MOST_PEOPLE
from learners.knowledge.donors import DonorSource
from learners.knowledge.entry import ABOUT_PEOPLE, Kind
from learners.knowledge.graph import GraphConfig, KnowledgeGraph
from learners.knowledge.store import KnowledgeStore
from learners.learner import LearnerConfig
from learners.loggers import logger_named
from learners.model import ModelConfig
from learners.quality.drift import DriftConfig
from learners.quality.shadow import ShadowConfig
from learners.ranking.ranker import RankerConfig
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundConfig
from learners.rounds.triggers import TriggerConfig
from learners.tasks import accumulation
from learners.tasks.accumulation import Learner
from learners.tasks.learner import Given, Offsets
from learners.tasks.task import Task
from streams.learning.config import LearnerProcessConfig
from streams.learning.keeping import Keeping
from streams.task_process import TaskWorkerConfig
from streams.tasks.study import Outcomes

log = structlog.get_logger(__name__)

KNOWLEDGE = "knowledge"  # under the data folder, unless a URL says where
ROUND_LOGS = "round-logs"  # under the data folder: what `learning.logger` writes
TEXT_VECTORS = "text_vectors.sqlite"  # under the data folder: vectors by content hash
PICTURES, PICTURE_VECTORS = "pictures", "picture_vectors.sqlite"  # the same of pictures, and where they lie
NO_PICTURES = "none"


def learner_config(settings: Settings, layout: Layout) -> LearnerConfig:
    """What the learner and its rounds are configured with.

    Args:
        settings: All settings.
        layout: What the model is told of items: that of the describers in use.

    >>> learner_config(Settings(), Layout(text=384)) == LearnerConfig()
    True
    """
    model, learning, gate, drift = settings.model, settings.learning, settings.gate, settings.drift
    interval_s = learning.round_interval_s
    return LearnerConfig(
        ranker=ranker_config(settings),
        trigger=TriggerConfig(
            interactions=learning.round_interactions,
            interval_ms=None if interval_s is None else round(interval_s * 1000),
            on_drift=learning.round_on_drift,
            drift_interactions=max(1, learning.round_interactions // 2),  # enough to learn from, and to pay for
        ),
        drift=DriftConfig(delta=drift.delta, warning_delta=drift.warning_delta, cooldown=drift.cooldown_interactions),
        shadow=ShadowConfig(interactions=gate.shadow_interactions),
        model=ModelConfig(
            width=model.width,
            layers=model.layers,
            heads=model.heads,
            dropout=model.dropout,
            history_length=model.history_length,
            text_width=layout.text,
            image_width=layout.image,
            attribute_width=layout.attributes,
            spare_rows=model.spare_rows,
        ),
        training=RoundConfig(
            epochs=learning.epochs,
            first_epochs=learning.first_epochs,
            batch_rows=learning.batch_rows,
            first_batch_rows=learning.first_batch_rows,
            learning_rate=learning.learning_rate,
            adam_epsilon=learning.adam_epsilon,
            distillation=learning.distillation,
            strategy=learning.strategy,
            logger=learning.logger,
            log_dir=None if learning.logger == "none" else str(settings.data_dir.absolute() / ROUND_LOGS),
            threads=learning.threads,
            device=learning.device,
        ),
        gate=GateConfig(
            max_regression=gate.max_regression,
            max_forgetting=gate.max_forgetting,
            noise=gate.noise,
            popularity_floor=gate.popularity_floor,
            min_targets=gate.min_targets,
        ),
        history_length=settings.features.history_length,
        replay_capacity=learning.replay_capacity,
        replay_rows=learning.replay_rows,
        newest_window=gate.window,
        metrics_window=learning.metrics_window,
        most_people=MOST_PEOPLE if settings.knowledge.accumulate and _kinds(settings) & ABOUT_PEOPLE else 0,
    )


def ranker_config(settings: Settings) -> RankerConfig:
    """What the learner scores with and workers rank with: the same.

    >>> ranker_config(Settings(ranking={"item_expiry_days": 2})).item_expiry_ms
    172800000
    """
    days = settings.ranking.item_expiry_days
    return RankerConfig(item_expiry_ms=None if days is None else round(days * DAY_MS))


def worker_arguments(settings: Settings) -> dict[str, Any]:
    """What `streams.worker_process.run_worker` is called with.

    Args:
        settings: All settings; Kafka and Postgres are set.
    """
    ingest, data_dir = settings.ingest, settings.data_dir.absolute()
    return {
        "connection": kafka_connection(settings),
        "postgres_url": _postgres_url(settings),
        "http_host": settings.http.host,
        "http_port": settings.http.worker_port,
        "session_timeout_s": settings.kafka.session_timeout_s,
        "instance_id": settings.kafka.instance_id,
        "max_batch_events": ingest.max_batch_events,
        "linger_ms": ingest.linger_ms,
        "allowed_lateness_ms": ingest.allowed_lateness_s * 1000,
        "allowed_skew_ms": ingest.allowed_skew_s * 1000,
        "dedupe_window": ingest.dedupe_window,
        "cache_users": ingest.cache_users,
        "cache_items": ingest.cache_items,
        "history_length": settings.features.history_length,
        "history_dir": data_dir / "history" if settings.features.write_history else None,
        "top_k": settings.ranking.top_k,
        "max_users": settings.ranking.max_users,
        "ranking_linger_ms": settings.ranking.linger_ms,
        "ranker": ranker_config(settings),
        "graph": knowledge_graph(settings) if settings.knowledge.graph else None,
    }


def learner_arguments(settings: Settings) -> dict[str, Any]:
    """What `streams.learner_process.run_learner` is called with.

    Args:
        settings: All settings; Kafka and Postgres are set.
    """
    data_dir = settings.data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    logger_named(settings.learning.logger, data_dir / ROUND_LOGS)  # what it needs is missed now, not after a round
    described_by = describers(settings)
    return {
        "connection": kafka_connection(settings),
        "postgres_url": _postgres_url(settings),
        "data_dir": data_dir,
        "learner": learner_config(settings, described_by.layout),
        "describers": described_by,
        "seed": settings.seed,
        "config": LearnerProcessConfig(
            checkpoint_interval_s=settings.learning.checkpoint_interval_s,
            round_timeout_s=settings.learning.round_timeout_s,
        ),
        "keeping": keeping(settings),
        "http_host": settings.http.host,
        "http_port": settings.http.learner_port,
    }


def describers(settings: Settings) -> Describers:
    """Who turns items into what the model is told of them; makes the data folder, where vectors are remembered."""
    data_dir = settings.data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    return Describers(
        texts=open_encoder(settings.model.text_encoder, cache=data_dir / TEXT_VECTORS),
        pictures=picture_vectors(settings),
        attributes=AttributeEncoder() if settings.model.attributes else None,
    )


def picture_vectors(settings: Settings) -> PictureVectors | None:
    """Who turns items' pictures into vectors; None where the model is told of none.

    >>> picture_vectors(Settings()) is None
    True
    """
    model, data_dir = settings.model, settings.data_dir.absolute()
    if model.image_encoder == NO_PICTURES:
        return None
    source = PictureSource(
        folder=data_dir / PICTURES if model.picture_folder is None else model.picture_folder.absolute(),
        network=model.picture_network,
    )
    return PictureVectors(open_image_encoder(model.image_encoder), source=source, cache=data_dir / PICTURE_VECTORS)


def task_worker_arguments(
    settings: Settings, *, task_files: Sequence[Path], share: str, round_examples: int
) -> dict[str, Any]:
    """What `streams.task_process.run_task_worker` is called with.

    Args:
        settings: All settings; Kafka is set.
        task_files: The task's declaration, or those of several that learn jointly.
        share: What several share.
        round_examples: Labelled examples that make a round.
    """
    store = knowledge_store(settings) if settings.postgres.url is not None else None
    if store is not None:
        store.create()
    return {
        "connection": kafka_connection(settings),
        "tasks": [Task.from_toml(path) for path in task_files],
        "share": share,
        "data_dir": settings.data_dir.absolute(),
        "seed": settings.seed,
        "config": TaskWorkerConfig(
            round_examples=round_examples, checkpoint_interval_s=settings.learning.checkpoint_interval_s
        ),
        "learn": partial(learn_and_keep, store=store) if store is not None else None,
        "http_host": settings.http.host,
    }


def learn_and_keep(
    learner: Learner, examples: Mapping[str, Given], offsets: Offsets, *, store: KnowledgeStore
) -> Outcomes:
    """Run a round of a task's worker, the first from the nearest knowledge, and keep what it learned, if the store can.

    Args:
        learner: Of a task, or of several.
        examples: Of the round, by the task's name.
        offsets: By the task's name: source partition -> next offset not yet learned, after this round.
        store: Where knowledge is.
    """
    learned = accumulation.learn(learner, examples, store=store, offsets=offsets)
    try:
        accumulation.keep(learner, learned, store=store, offsets=offsets)
    except LearnerError as error:
        log.warning("knowledge_not_kept", task=", ".join(examples), error=str(error))
    return learned.outcomes


def keeping(settings: Settings) -> Keeping:
    """What the learner hands knowledge to; nothing is connected yet.

    Args:
        settings: All settings; Postgres is set.
    """
    knowledge, graph = settings.knowledge, knowledge_graph(settings) if settings.knowledge.graph else None
    encoder, accumulation, reuse = settings.model.text_encoder, None, None
    if knowledge.accumulate:
        accumulation = Accumulation(
            knowledge_store(settings),
            collection=collection_config(settings),
            task=knowledge.task,
            encoder=encoder,
            graph=graph.snapshot if graph is not None else tuple,
            kinds=_kinds(settings),
        )
    if knowledge.reuse:
        reuse = DonorSource(store=knowledge_store(settings), encoder=encoder, most=knowledge.reuse)
    return Keeping(accumulation=accumulation, graph=graph, reuse=reuse)


def _kinds(settings: Settings) -> frozenset[Kind]:
    """What a release leaves."""
    wanted = settings.knowledge.kinds.split(",")
    return frozenset(kind for kind in FORM_OF if kind in wanted)


def knowledge_graph(settings: Settings) -> KnowledgeGraph:
    """The knowledge graph; the caller creates its tables.

    Args:
        settings: All settings; Postgres is set.
    """
    knowledge = settings.knowledge
    return KnowledgeGraph(
        postgres_url=_postgres_url(settings),
        config=GraphConfig(
            half_life_days=knowledge.graph_half_life_days, edges_per_node=knowledge.graph_edges_per_node
        ),
    )


def knowledge_store(settings: Settings) -> KnowledgeStore:
    """The store of knowledge; the caller creates its tables.

    Args:
        settings: All settings; Postgres is set.
    """
    url = settings.knowledge.url or (settings.data_dir.absolute() / KNOWLEDGE).as_uri()
    return KnowledgeStore(postgres_url=_postgres_url(settings), artifacts=ArtifactStore(url))


def collection_config(
    settings: Settings, *, max_bytes: int | None = None, max_age_days: float | None = None
) -> CollectionConfig:
    """How much knowledge is kept.

    Args:
        settings: All settings.
        max_bytes: Given by hand instead of the setting.
        max_age_days: The same.

    >>> collection_config(Settings(), max_bytes=7)
    CollectionConfig(max_bytes=7, max_age_days=None, half_life_days=30.0, hold_parents=False, metric='ndcg_10')
    """
    knowledge = settings.knowledge
    return CollectionConfig(
        max_bytes=knowledge.max_bytes if max_bytes is None else max_bytes,
        max_age_days=knowledge.max_age_days if max_age_days is None else max_age_days,
        half_life_days=knowledge.half_life_days,
    )


def _postgres_url(settings: Settings) -> str:
    return settings.postgres.url.get_secret_value() if settings.postgres.url else ""
