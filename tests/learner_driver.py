"""Run a small learner process, and kill it at one chosen moment: `python -m tests.learner_driver '{...}'`.

Only here do moments have names: production code knows nothing of them. Each is a function of some part; the process is
killed with -9 just before that function is called, or just after it has returned.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from learners.items.attributes import AttributeEncoder
from learners.items.encoder import HashEncoder
from learners.items.image import PictureVectors, StatisticsEncoder
from learners.items.picture import PictureSource
from learners.items.shelf import Describers
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.donors import DonorSource
from learners.knowledge.graph import KnowledgeGraph
from learners.knowledge.store import KnowledgeStore
from learners.learner import Learner, LearnerConfig
from learners.model import ModelConfig
from learners.quality.shadow import Rollback
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundConfig
from learners.rounds.triggers import TriggerConfig
from streams.clients import KafkaConnection
from streams.learner_process import run_learner
from streams.learning.config import LearnerProcessConfig
from streams.learning.keeping import Keeping

TEXT_WIDTH = 16
MOMENTS = {
    "round input written": ("after", "streams.learning.rounds", "Rounds.prepare"),
    "round in a checkpoint": ("before", "streams.learning.rounds", "Rounds.begin"),
    "round trained": ("before", "streams.learning.rounds", "Rounds.result"),
    "version directory written": ("before", "learners.releases.registry", "Registry._insert"),
    "row written, pointer not moved": ("before", "learners.releases.registry", "write_pointer"),
    "pointer moved": ("after", "learners.releases.registry", "Registry.publish"),
    "record acknowledged": ("before", "streams.learning.releasing", "Releasing.sent"),
    "record marked": ("after", "streams.learning.releasing", "Releasing.sent"),
    "adopted": ("after", "streams.learning.study", "Study.adopt"),
    "round settled": ("after", "streams.learning.study", "Study.end_round"),
    "settled round in a checkpoint": ("before", "streams.learning.rounds", "Rounds.tidy"),
}
KNOWLEDGE_MOMENTS = {
    "artifact written, no row": ("before", "learners.knowledge.tables", "insert"),
    "knowledge kept": ("after", "streams.learning.keeping", "Keeping.keep"),
    "graph grown": ("after", "streams.learning.keeping", "Keeping.grow"),
}


def learner_config(options: dict[str, Any]) -> LearnerConfig:
    """Everything small."""
    return LearnerConfig(
        trigger=TriggerConfig(interactions=options.get("round_interactions", 10**9), on_drift=False),
        model=ModelConfig(
            width=8,
            layers=1,
            heads=1,
            history_length=8,
            text_width=TEXT_WIDTH,
            spare_rows=16,
            image_width=StatisticsEncoder.width if "pictures" in options else 0,
            attribute_width=TEXT_WIDTH if "pictures" in options else 0,
        ),
        training=RoundConfig(
            first_epochs=options.get("first_epochs", options.get("epochs", 1)),
            epochs=options.get("epochs", 1),
            batch_rows=64,
            device="cpu",
        ),
        gate=GateConfig(popularity_floor=options.get("popularity_floor", 0.0), max_regression=1, max_forgetting=1),
        replay_capacity=300,
        newest_window=50,
        frozen_cases=50,
        metrics_window=100,
        history_length=10,
    )


def keeping(options: dict[str, Any]) -> Keeping:
    """A store beside the learner's data, and a graph."""
    graph = KnowledgeGraph(postgres_url=options["postgres_url"])
    artifacts = ArtifactStore((Path(options["data_dir"]) / "knowledge").as_uri())
    accumulation = Accumulation(
        KnowledgeStore(postgres_url=options["postgres_url"], artifacts=artifacts),
        collection=CollectionConfig(max_bytes=options.get("knowledge_bytes", 10**9)),
        encoder="hash",
        graph=graph.snapshot,
    )
    reuse = DonorSource(store=accumulation.store, encoder="hash")
    return Keeping(accumulation=accumulation, graph=graph, reuse=reuse)


def pictures(options: dict[str, Any]) -> PictureVectors | None:
    """Pictures below a folder, if the test has one."""
    if "pictures" not in options:
        return None
    source = PictureSource(folder=Path(options["pictures"]))
    return PictureVectors(StatisticsEncoder(), source=source, cache=Path(options["data_dir"]) / "pictures.sqlite")


def kill_at(moment: str, *, times: int) -> None:
    """Arrange to be killed when `moment` comes for the `times`-th time."""
    when, module_name, path = (MOMENTS | KNOWLEDGE_MOMENTS)[moment]
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, name)
    seen = 0

    def replaced(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if when == "before" and seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if when == "after" and seen == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, replaced)


def find_fault_with(version: int) -> None:
    """Let the shadow say that the predecessor of `version` was better."""

    def should_roll_back(self: Learner) -> Rollback | None:
        return Rollback(version - 1, "the test says so", {}) if self.ranker.model_version == version else None

    Learner.should_roll_back = should_roll_back  # type: ignore[method-assign]


def main(options: dict[str, Any]) -> int:
    """Run the learner until it is told to stop, or killed."""
    torch.set_num_threads(1)
    if options.get("kill_at"):
        kill_at(options["kill_at"], times=options.get("kill_at_time", 1))
    if options.get("bad_version"):
        find_fault_with(options["bad_version"])
    data_dir = Path(options["data_dir"])
    return asyncio.run(
        run_learner(
            connection=KafkaConnection(bootstrap_servers=options["bootstrap_servers"]),
            postgres_url=options["postgres_url"],
            data_dir=data_dir,
            learner=learner_config(options),
            describers=Describers(
                texts=HashEncoder(width=TEXT_WIDTH),
                pictures=pictures(options),
                attributes=AttributeEncoder(width=TEXT_WIDTH) if "pictures" in options else None,
            ),
            config=LearnerProcessConfig(
                checkpoint_interval_s=options.get("checkpoint_interval_s", 0.5),
                lock_wait_s=options.get("lock_wait_s", 10.0),
                round_timeout_s=options.get("round_timeout_s", 60.0),
                registry_interval_s=0.5,
            ),
            keeping=keeping(options) if options.get("keeping") else None,
            port_file=data_dir / "port",
        )
    )


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
