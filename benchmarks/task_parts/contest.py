"""Ways to tell how relevant a title is to a query, each trained on the same pairs and judged on the same others."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.task_parts.bm25 import Bm25, calibrated
from benchmarks.task_parts.home_depot import HIGH, LOW, title_words
from learners.tasks.backbones import StateCache, open_backbone
from learners.tasks.config import HeadConfig, TrainingConfig
from learners.tasks.examples import Example
from learners.tasks.judging import groups_of, labels_of
from learners.tasks.metrics import gains_by_group, rmse
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import train

Floats = npt.NDArray[np.float64]
Learned = Mapping[str, Tensor]
MORE = 4  # passes where pairs are few
FEW = 10  # the part of the pairs that "few" learns from is one in so many
_NOISE = 1e-9  # breaks ties by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How everything in the contest is trained.

    Args:
        encoder: Of the texts.
        interaction: How a pair meets.
        pairs: To learn from.
        epochs: Passes over them.
        test_pairs: That judge.
        titles: Of the catalogue, from which the shop's adapter learns.
        rates: Encoder mode -> learning rate of the encoder.
        batch: Examples a step.
        max_tokens: Where texts are cut off.
    """

    encoder: str = "minilm"
    interaction: str = "bi"
    pairs: int = 4000
    epochs: int = 1
    test_pairs: int = 1500
    titles: int = 2000
    rates: tuple[tuple[str, float], ...] = (("lora", 1e-3), ("full", 1e-4))
    batch: int = 32
    max_tokens: int = 32

    def task(self, mode: str, *, loss: str = "mse", epochs: int | None = None) -> Task:
        """Return the declaration of one way."""
        training = TrainingConfig(
            encoder=mode,  # type: ignore[arg-type]
            encoder_learning_rate=dict(self.rates).get(mode),
            loss=loss,
            epochs=epochs or self.epochs,
            batch=self.batch,
            max_tokens=self.max_tokens,
        )
        return Task(
            name="search-relevance",
            kind="pair",
            inputs=("query", "title"),
            target="relevance",
            text_encoder=self.encoder,
            head=HeadConfig(interaction=self.interaction),
            training=training,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What everybody learns from and is judged on.

    Args:
        setting: The setting.
        learn: Pairs to learn from.
        test: Pairs that judge.
        titles: Of the catalogue; none is in a test pair.
        seed: Of every random choice.
        cache: Of the frozen encoder's states.
    """

    setting: Setting
    learn: Sequence[Example]
    test: Sequence[Example]
    titles: Sequence[str]
    seed: int
    cache: StateCache

    def few(self) -> "Contest":
        """Return the same contest with a tenth of the pairs and four times the passes, for steps enough."""
        longer = replace(self.setting, epochs=MORE * self.setting.epochs)
        return replace(self, setting=longer, learn=self.learn[: len(self.learn) // FEW])


def bm25(contest: Contest) -> dict[str, Any]:
    """What a search engine says, by the statistics of the catalogue."""
    engine = Bm25(contest.titles)
    learned, scores = (
        np.array([engine.score(*pair.texts) for pair in pairs]) for pairs in (contest.learn, contest.test)
    )
    return judged(contest, calibrated(learned, labels_of(contest.learn), scores))


def frozen_similarity(contest: Contest) -> dict[str, Any]:
    """The untouched encoder's cosine similarity; only its scale is learned."""
    model = TaskModel(contest.setting.task("frozen", loss="ranking"), _backbone(contest), cache=contest.cache)
    learned, scores = (model.scores(pairs).astype(np.float64) for pairs in (contest.learn, contest.test))
    return judged(contest, calibrated(learned, labels_of(contest.learn), scores))


def trained(mode: str) -> Callable[[Contest], dict[str, Any]]:
    """Return the way that trains head and encoder in a mode."""

    def way(contest: Contest) -> dict[str, Any]:
        return _trained(contest, mode, {})

    return way


def from_the_shop(contest: Contest, shop: Learned) -> dict[str, Any]:
    """LoRA that starts from the shop's adapter."""
    return _trained(contest, "lora", shop)


def shop_adapter(contest: Contest) -> tuple[Learned, dict[str, Any]]:
    """Return what is learned from the catalogue alone, without labels: which title some of its words come from."""
    pairs = title_words(contest.titles, contest.setting.titles, seed=contest.seed)
    model = _model(contest, contest.setting.task("lora", loss="contrastive", epochs=1))
    model.standardise(pairs)
    began = time.process_time()
    losses = train(model, pairs, rng=np.random.default_rng(contest.seed))
    facts = {"pairs": len(pairs), "cpu_s": time.process_time() - began, "last_losses": float(np.mean(losses[-20:]))}
    kept = {name: value for name, value in model.learned().items() if name.startswith("adapter.")}
    return kept, facts


def judged(contest: Contest, scores: Floats) -> dict[str, Any]:
    """Return NDCG@10 over the test queries whose labels differ, and RMSE over all test pairs."""
    labels, groups = labels_of(contest.test), groups_of(contest.test)
    jitter = _NOISE * np.random.default_rng(contest.seed).random(len(scores))
    differ = np.array([len(set(labels[groups == group].tolist())) > 1 for group in range(groups.max() + 1)])
    counted = differ[groups]
    gains = gains_by_group(scores[counted] + jitter[counted], labels[counted], groups[counted])
    return {
        "ndcg_10": float(np.mean(gains)),
        "rmse": rmse(np.clip(scores, LOW, HIGH), labels),
        "queries": len(gains),
        "pairs": len(labels),
    }


def _trained(contest: Contest, mode: str, start: Learned) -> dict[str, Any]:
    model = _model(contest, contest.setting.task(mode))
    trained_parameters = model.trained()
    with torch.no_grad():
        for name, value in start.items():
            trained_parameters[name].copy_(value)
    model.standardise(contest.learn)
    began = time.process_time()
    train(model, contest.learn, rng=np.random.default_rng(contest.seed))
    spent = time.process_time() - began
    found = judged(contest, model.scores(contest.test).astype(np.float64))
    count = sum(value.numel() for value in trained_parameters.values())
    return found | {"trained_parameters": count, "cpu_s": spent}


def _model(contest: Contest, task: Task) -> TaskModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(contest.seed)
        return TaskModel(task, _backbone(contest), cache=contest.cache)


def _backbone(contest: Contest) -> Any:
    return open_backbone(contest.setting.encoder)
