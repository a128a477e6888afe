"""What is wrong with an installation, and what to do about it: one finding a check."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg

from feature_store.apply import is_applied
from feature_store.errors import FeatureStoreError
from infra.deployment import kafka_connection
from infra.embedded.kafka import LIMITS, EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.errors import EmbeddedStartError
from infra.settings import Settings
from learners.errors import LearnerError
from streams.clients import describe
from streams.errors import KafkaUnavailableError
from streams.topics import all_topics

LITTLE_DISK_BYTES = 2 * 1024**3
State = Literal["good", "doubt", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    state: State
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Run every check; none changes anything but starting and stopping embedded parts."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (_kafka, _postgres, _disk, _training, _encoder)
    return [finding for check in checks for finding in check(settings)]


def _kafka(settings: Settings) -> Iterator[Finding]:
    if settings.kafka.bootstrap_servers is None:
        try:
            with Path(os.devnull).open("wb") as nowhere, EmbeddedKafka(log=nowhere) as kafka:
                yield Finding("Kafka", "good", f"none is set; the embedded one starts ({kafka.bootstrap_servers})")
                yield Finding("Kafka", "doubt", LIMITS)
        except EmbeddedStartError as error:
            yield Finding("Kafka", "bad", str(error))
        return
    try:
        cluster, found = asyncio.run(describe(kafka_connection(settings)))
    except KafkaUnavailableError as error:
        yield Finding("Kafka", "bad", str(error))
        return
    yield Finding("Kafka", "good", f"cluster {cluster} answers at {settings.kafka.bootstrap_servers}")
    wanted = all_topics(partitions=settings.kafka.partitions)
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        yield Finding("topics", "bad", f"missing: {', '.join(missing)}; run `alluvium topics apply`")
    for topic in sorted(wanted.keys() & found.keys()):
        if found[topic] != wanted[topic]:
            yield Finding(
                "topics",
                "bad",
                f"{topic} has {found[topic]} partitions; expected {wanted[topic]} (ALLUVIUM_KAFKA__PARTITIONS). When"
                " the count changes, users move between partitions: they are then read again and counted as foreign",
            )
    if not missing and all(found[topic] == count for topic, count in wanted.items()):
        yield Finding("topics", "good", f"all {len(wanted)} exist with the expected partitions")


def _postgres(settings: Settings) -> Iterator[Finding]:
    if settings.postgres.url is None:
        try:
            with Path(os.devnull).open("wb") as nowhere, EmbeddedPostgres(log=nowhere):
                yield Finding("Postgres", "good", "none is set; the embedded one starts")
        except EmbeddedStartError as error:
            yield Finding("Postgres", "bad", str(error))
        return
    url = settings.postgres.url.get_secret_value()
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            version = connection.info.server_version // 10_000
            yield Finding("Postgres", "good", f"version {version} answers at {connection.info.host}")
            vector = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        applied = is_applied(postgres_url=url)
    except (psycopg.Error, FeatureStoreError) as error:
        yield Finding("Postgres", "bad", " ".join(str(error).split()))
        return
    if settings.knowledge.accumulate and vector is None:
        yield Finding(
            "knowledge", "bad", "Postgres has no pgvector; install it, or set ALLUVIUM_KNOWLEDGE__ACCUMULATE=false"
        )
    if applied:
        yield Finding("features", "good", "the tables exist")
    else:
        yield Finding("features", "bad", "the tables are missing; run `alluvium features apply`")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("data folder", "bad", f"{folder} cannot be written; set ALLUVIUM_DATA_DIR")
        return
    free = shutil.disk_usage(existing).free
    state: State = "good" if free > LITTLE_DISK_BYTES else "doubt"
    yield Finding("data folder", state, f"{folder} has {free / 1024**3:.1f} GiB free")


def _training(settings: Settings) -> Iterator[Finding]:
    import torch  # noqa: PLC0415  # seconds to load

    if settings.learning.device == "cuda" and not torch.cuda.is_available():
        yield Finding(
            "training", "bad", "ALLUVIUM_LEARNING__DEVICE is 'cuda'; expected 'cpu' or 'auto': no GPU is seen"
        )
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and settings.learning.device != "cpu" else "CPU"
    yield Finding("training", "good", f"rounds train on {device} (torch {torch.__version__})")


def _encoder(settings: Settings) -> Iterator[Finding]:
    from infra.composition import NO_PICTURES  # noqa: PLC0415  # loads transformers
    from learners.items.encoder import open_encoder  # noqa: PLC0415  # the same
    from learners.items.image import open_image_encoder  # noqa: PLC0415  # the same

    try:
        width = open_encoder(settings.model.text_encoder).encode(["a teapot"]).shape[1]
    except (LearnerError, OSError) as error:
        yield Finding("text encoder", "bad", " ".join(str(error).split())[:300])
        return
    yield Finding("text encoder", "good", f"{settings.model.text_encoder} gives {width} numbers a text")
    if settings.model.image_encoder == NO_PICTURES:
        return
    try:
        width = open_image_encoder(settings.model.image_encoder).width
    except (LearnerError, OSError) as error:
        yield Finding("image encoder", "bad", " ".join(str(error).split())[:300])
        return
    yield Finding("image encoder", "good", f"{settings.model.image_encoder} gives {width} numbers a picture")
