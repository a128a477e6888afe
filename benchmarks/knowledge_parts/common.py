"""What both commands are told and how they begin: options, log, vectors, stores, what is finished."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.knowledge_parts.errors import SeedsError
from benchmarks.knowledge_parts.log import Floats, Log, text_vectors
from benchmarks.knowledge_parts.rows import Setting
from benchmarks.knowledge_parts.vectors import narrowed
from infra.embedded.postgres import EmbeddedPostgres
from learners.items.encoder import HashEncoder, open_encoder
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.store import KnowledgeStore
from learners.model import ModelConfig
from learners.rounds.material import RoundConfig

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STATE = Path("alluvium-data") / "bench-knowledge"
TEXT_WIDTH = 64

# Small enough for two cores. Epochs, rate and batch are the learner's own; on Germany and France BEFORE the opening,
# which is not reported, a higher rate was worse (NDCG@10 0.134 at 5e-3, 0.154 at 2e-3).
FULL = Setting(
    model=ModelConfig(width=32, layers=1, heads=2, history_length=20, text_width=TEXT_WIDTH, spare_rows=0),
    training=RoundConfig(device="cpu"),
    donor_training=RoundConfig(
        first_batch_rows=128,
        first_epochs=4,
        first_learning_rate=4e-3,
        first_full_softmax_items=1_000,
        first_sampled_negatives=1_024,
        sampling="uniform",
        device="cpu",
    ),
)
TOY = Setting(
    model=ModelConfig(
        width=16, layers=1, heads=1, history_length=8, text_width=16, spare_rows=0, dropout=0.0, input_dropout=0.1
    ),
    training=RoundConfig(first_epochs=4, first_learning_rate=1e-2, device="cpu"),
    donor_training=RoundConfig(first_epochs=12, first_learning_rate=1e-2, device="cpu"),
)


def parser_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options that both commands have."""
    parser = argparse.ArgumentParser(prog=f"alluvium bench {name}", description=description)
    parser.add_argument("--seeds", type=int, default=3, help="runs that differ in their seed only")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where the log lies")
    parser.add_argument("--encoder", default="minilm", help="of the titles: minilm, hash, a folder, a name on the hub")
    parser.add_argument("--state", type=Path, default=STATE, help="what is finished is kept here, and not done again")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    parser.add_argument("--toy", action="store_true", help="a small simulated world: does it still run?")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse options out of range.

    Raises:
        SeedsError: If no run is asked for.
    """
    if options.seeds < 1:
        raise SeedsError(seeds=options.seeds)


def vectors_of(log: Log, options: argparse.Namespace) -> Floats:
    """Return the titles' vectors, narrow enough for a small model, float32 [N, T]."""
    if options.toy:
        return text_vectors(log, HashEncoder(width=TOY.model.text_width))
    options.state.mkdir(parents=True, exist_ok=True)
    encoder = open_encoder(options.encoder, cache=options.state.absolute() / "text_vectors.sqlite")
    return narrowed(text_vectors(log, encoder), TEXT_WIDTH)


@contextmanager
def two_stores(folder: Path) -> Iterator[tuple[KnowledgeStore, KnowledgeStore]]:
    """Start the embedded Postgres, and two empty knowledge stores in it."""
    with EmbeddedPostgres() as server:
        base = server.url.rsplit("/", 1)[0]
        stores = []
        for name in ("right", "wrong"):
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE bench_{name} TEMPLATE template0")
            artifacts = ArtifactStore((folder / name).absolute().as_uri())
            store = KnowledgeStore(postgres_url=f"{base}/bench_{name}", artifacts=artifacts)
            store.create()
            stores.append(store)
        yield stores[0], stores[1]


def once(path: Path, make: Callable[[], Any]) -> Any:
    """Return JSON-able figures, made only if the file does not hold them yet."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(found), encoding="utf-8")
    unfinished.replace(path)
    return found


def write(options: argparse.Namespace, report: dict[str, Any], text: str) -> None:
    """Write what was asked for."""
    for target, content in ((options.report, json.dumps(report, indent=1)), (options.markdown, text)):
        if target is not None:
            target.write_text(content + "\n", encoding="utf-8")
