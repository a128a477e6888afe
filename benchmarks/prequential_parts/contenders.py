"""Who takes part, with which settings, and how each is run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.prequential_parts.datasets import Dataset
from benchmarks.prequential_parts.item_knn import ItemKnn
from benchmarks.prequential_parts.log import DAY_MS
from benchmarks.prequential_parts.ours import Stopping, continual, retraining
from benchmarks.prequential_parts.peers import Peers
from benchmarks.prequential_parts.popularity import Popularity
from benchmarks.prequential_parts.protocol import Contender, Outcome, run
from benchmarks.prequential_parts.records import digest
from benchmarks.prequential_parts.river_models import BiasedMF, FactorizationMachine
from learners.items.encoder import Encoder
from learners.learner_config import LearnerConfig

Progress = Callable[[int], None]

RETRAINING_STOPS = Stopping(most=24, steps=1_500, least=8)  # its first fits train as the default's first round
DEFAULT, RETRAINING = "default", "retraining"
FROM_SCRATCH = (
    "first_batch_rows",
    "first_learning_rate",
    "schedule",
    "schedule_decay",
    "weight_decay",
    "max_grad_norm",
    "batching",
    "first_full_softmax_items",
    "first_sampled_negatives",
    "loss",
    "sampling",
    "validation_share",
    "patience",
    "device",
    "compile",
)
"""The settings of `RoundConfig` that a training from scratch without an incumbent reads; the rest cannot change it."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "online_retail": {
        "popularity_recent": {"half_life_ms": 3 * DAY_MS},
        "item_knn": {"last": 2, "shrink": 50.0},
        "river_biased_mf": {"factors": 32, "learning_rate": 0.03, "l2": 0.01},
        "river_fm": {"factors": 32, "learning_rate": 0.06},
        "implicit_als": {"factors": 64, "regularization": 10.0, "alpha": 3.0},
        "recbole_sasrec": {"epochs": 3},
    },
    "ml_100k": {
        "popularity_recent": {"half_life_ms": 14 * DAY_MS},
        "item_knn": {"last": 10, "shrink": 100.0},
        "river_biased_mf": {"factors": 32, "learning_rate": 0.1, "l2": 0.01},
        "river_fm": {"factors": 32, "learning_rate": 0.06},
        "implicit_als": {"factors": 64, "regularization": 10.0, "alpha": 3.0},
        "recbole_sasrec": {"epochs": 10},
    },
}
"""What was chosen on the first interactions of each log; what is not named here is its author's default."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the contenders share.

    Args:
        dataset: The log.
        encoder: Of item texts; only ours reads them.
        config: The learner's; the default strategy's own.
        peers: The other virtual environment.
        state: Where finished rounds of retraining are kept.
    """

    dataset: Dataset
    encoder: Encoder
    config: LearnerConfig
    peers: Peers
    state: Path

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The peers' settings for this log."""
        return SETTINGS.get(self.dataset.log.name, SETTINGS["online_retail"])


@dataclass(frozen=True)
class Entry:
    """A contender by name.

    Args:
        says: One line for the report.
        make: Runs it.
        random: Whether a seed changes anything.
        settings: What it was run with, which also tells whether a kept outcome still stands.
        peer: Whether it runs in the peers' virtual environment.
    """

    says: str
    make: Callable[[Bench, int, Progress], Outcome]
    random: bool
    settings: Callable[[Bench], Any] = field(default=lambda _bench: None)
    peer: bool = False


def _peer(make: Callable[..., Contender], name: str = "", *, seeded: bool = False) -> Callable[..., Outcome]:
    def outcome(bench: Bench, seed: int, progress: Progress) -> Outcome:
        log = bench.dataset.log
        given = dict(bench.settings.get(name, {})) | ({"seed": seed} if seeded else {})
        return run(make(log.catalogue, **given), log, progress=progress)

    return outcome


def _child(module: str, name: str) -> Callable[..., Outcome]:
    def outcome(bench: Bench, seed: int, _progress: Progress) -> Outcome:
        return bench.peers.run(module, bench.dataset.log, bench.settings.get(name, {}) | {"seed": seed})

    return outcome


def _ours(strategy: str) -> Callable[..., Outcome]:
    def outcome(bench: Bench, seed: int, progress: Progress) -> Outcome:
        return continual(
            bench.dataset,
            encoder=bench.encoder,
            config=bench.config,
            seed=seed,
            strategy=strategy,
            progress=progress,
        )

    return outcome


def _retraining(bench: Bench, seed: int, progress: Progress) -> Outcome:
    return retraining(
        bench.dataset,
        encoder=bench.encoder,
        config=bench.config,
        stopping=RETRAINING_STOPS,
        seed=seed,
        progress=progress,
        keep=bench.state
        / f"rounds-{bench.dataset.log.name}-{len(bench.dataset.log)}-{seed}-{digest(_of_retraining(bench))}",
    )


def _of_retraining(bench: Bench) -> Any:
    """What a model that was trained from scratch depends on, beside the log and the seed: not how rounds fine-tune."""
    training = {name: getattr(bench.config.training, name) for name in FROM_SCRATCH}
    return [asdict(RETRAINING_STOPS), asdict(bench.config.model), training]


def _settings_of(name: str) -> Callable[[Bench], Any]:
    return lambda bench: bench.settings.get(name)


CONTENDERS: dict[str, Entry] = {
    "popularity": Entry("counts, at once", _peer(Popularity), random=False),
    "popularity_recent": Entry(
        "counts with a half-life, at once",
        _peer(Popularity, "popularity_recent"),
        random=False,
        settings=_settings_of("popularity_recent"),
    ),
    "item_knn": Entry(
        "cosine between items, at once", _peer(ItemKnn, "item_knn"), random=False, settings=_settings_of("item_knn")
    ),
    "river_biased_mf": Entry(
        "river's BiasedMF, 4 drawn negatives, at once",
        _peer(BiasedMF, "river_biased_mf", seeded=True),
        random=True,
        settings=_settings_of("river_biased_mf"),
    ),
    "river_fm": Entry(
        "river's FMClassifier on person, last item and item, 4 drawn negatives, at once",
        _peer(FactorizationMachine, "river_fm", seeded=True),
        random=True,
        settings=_settings_of("river_fm"),
    ),
    "implicit_als": Entry(
        "implicit's ALS, refitted every 14 days, people folded in at once",
        _child("implicit_child", "implicit_als"),
        random=True,
        settings=_settings_of("implicit_als"),
        peer=True,
    ),
    "recbole_sasrec": Entry(
        "RecBole's SASRec, from scratch on everything, every 14 days; histories of the moment",
        _child("recbole_child", "recbole_sasrec"),
        random=True,
        settings=_settings_of("recbole_sasrec"),
        peer=True,
    ),
    DEFAULT: Entry(
        "Alluvium's default strategy", _ours("default"), random=True, settings=lambda bench: repr(bench.config)
    ),
    "naive": Entry(
        "fine-tuning on what is new alone",
        _ours("naive"),
        random=True,
        settings=lambda bench: repr(replace(bench.config, replay_rows=0)),  # it replays nothing
    ),
    RETRAINING: Entry(
        "the same network from scratch on everything, every 14 days",
        _retraining,
        random=True,
        settings=lambda bench: (_of_retraining(bench), repr(bench.config.ranker)),
    ),
}
