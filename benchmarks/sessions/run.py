"""The protocol: learn one period after another, each once, and be tested on the next; every finished update is kept."""

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.sessions.continual import ContinualModel, retrain, seed_of
from benchmarks.sessions.data import Periods, Questions, Sessions, questions
from benchmarks.sessions.examination import WHO, Examined, blocks, sample, weights_from
from benchmarks.sessions.fast_memory import FastMemory, MemoryConfig
from benchmarks.sessions.metrics import Outcome, Ranks, measure, ranks_of
from benchmarks.sessions.opinions import MEMORY_EXPERTS
from benchmarks.sessions.rows import set_aside
from benchmarks.sessions.shared_model import TrainingConfig, clock, scores_of
from benchmarks.sessions.weights import Lesson
from learners.disk import write_whole
from learners.model import SharedModel

Figures = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that decides about a run's figures but its data and seed.

    Args:
        memory: See `MemoryConfig`.
        training: See `TrainingConfig`.
        experts: Experts of the fast memory that may speak.
        with_model: Whether there is a shared model.
        rehearsal_share: Newest sessions of the first period that the first weights are learned from.
        lesson_questions: Questions of a finished test that weights are learned from.
        lesson_candidates: Best items of each of them.
        lessons: Newest finished tests that count.
        frozen_questions: Questions of each finished test that all later updates are asked again.
    """

    memory: MemoryConfig = field(default_factory=MemoryConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    experts: tuple[str, ...] = MEMORY_EXPERTS
    with_model: bool = True
    rehearsal_share: float = 0.1
    lesson_questions: int = 3_000
    lesson_candidates: int = 100
    lessons: int = 2
    frozen_questions: int = 500

    def __post_init__(self) -> None:
        """Refuse vectors that do not fit the network's rows."""
        if self.memory.rank != self.training.width:
            raise ValueError(f"rank of the spectral vectors is {self.memory.rank}, width {self.training.width}")

    def described(self) -> Figures:
        """Return the settings as plain values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


class Run:
    """One seed's way through all updates.

    Args:
        periods: The data.
        config: See `RunConfig`.
        seed: Source of everything random.
        folder: Where finished updates are kept; what is there is taken as done.
        device: Where the shared model trains and answers.
        say: Told one line per update.
    """

    def __init__(
        self, periods: Periods, config: RunConfig, *, seed: int, folder: Path, device: torch.device, say: Say
    ) -> None:
        self.periods, self.config, self.seed, self.folder, self.say = periods, config, seed, folder, say
        self.memory = FastMemory(config.memory)
        self.model = ContinualModel(config.training, seed, device)
        self.lessons: list[Lesson] = []
        self._device = device

    def updates(self, count: int) -> list[Figures]:
        """Return the figures of the first `count` updates, computing those that are not kept yet."""
        done = 0
        while done < count and self._path(done + 1).exists():
            done += 1
        if done < count:
            self._go_on_after(done)
        found = [json.loads(self._path(update).read_text()) for update in range(1, done + 1)]
        for update in range(done + 1, count + 1):
            found.append(self.update(update))
            self._keep(update, found[-1])
            self.say(line_of(self.seed, found[-1]))
        return found

    def update(self, update: int) -> Figures:
        """Learn the period before, and be tested on this one."""
        if update == 1 and not self.lessons:
            self._rehearse()
        start = clock(self._device)
        self.memory.learn(self.periods.sessions[update - 1], items=self.periods.known[update - 1])
        self.memory.prepare()
        memory_s = clock(self._device) - start
        curve = self.model.learn(self.periods, update, self.memory.vectors) if self.config.with_model else None
        start = clock(self._device)
        weights = weights_from(self.lessons, self.config.experts, with_model=self.config.with_model)
        weights_s = clock(self._device) - start
        examined = Examined(self.memory, self.model.model, *weights)
        asked = questions_of_test(self.periods, update, self.config)
        found = figures_of(self.periods, update, asked, examined.ranks(asked))
        found["seconds"] = {
            "memory": memory_s, "weights": weights_s, "training": curve.seconds if curve else 0.0,
            "rehearsal": self._rehearsal_s if update == 1 else 0.0,
        }  # fmt: skip
        found["training"] = asdict(curve) if curve else None
        found["weights"] = {name: weight.round(4).tolist() for name, weight in weights[1].items()}
        found["again"] = self._asked_again(update, examined)
        # The test has ended: from here on its answers may be learned from.
        own_seed = seed_of(self.seed, update)
        lesson = examined.lesson(
            sample(asked, count=self.config.lesson_questions, seed=own_seed), candidates=self.config.lesson_candidates
        )
        self.lessons = [*self.lessons, *([lesson] if lesson else [])][-self.config.lessons :]
        return found

    def _rehearse(self) -> None:
        """Learn the first weights: from the newest sessions of the first period, asked of who has not seen them."""
        start = clock(self._device)
        older, newest = set_aside(self.periods.sessions[0], share=self.config.rehearsal_share)
        items = self.periods.known[0]
        memory = FastMemory(self.config.memory)
        memory.learn(older, items=items)
        model = ContinualModel(self.config.training, self.seed, self._device)
        if self.config.with_model:
            model.learn(Periods((older,), (items,)), 1, memory.vectors)
        examined = Examined(
            memory, model.model, *weights_from([], self.config.experts, with_model=self.config.with_model)
        )
        asked = sample(asked_of(newest, self.config), count=self.config.lesson_questions, seed=seed_of(self.seed, 0))
        lesson = examined.lesson(asked, candidates=self.config.lesson_candidates)
        self.lessons = [lesson] if lesson else []
        self._rehearsal_s = clock(self._device) - start

    def _asked_again(self, update: int, examined: Examined) -> Figures:
        """Return Recall@20 on the frozen questions of this and all earlier tests, by who answered."""
        found: Figures = {name: {} for name in WHO}
        for period in range(1, update + 1):
            asked = questions_of_test(self.periods, period, self.config)
            frozen = sample(asked, count=self.config.frozen_questions, seed=seed_of(0, period))
            for name, ranks in examined.ranks(frozen).items():
                found[name][str(period)] = measure(ranks)["recall_20"]
        return found

    def _path(self, update: int) -> Path:
        return self.folder / f"update-{update:02d}.json"

    def _keep(self, update: int, found: Figures) -> None:
        """Keep what the next update needs, and then the figures, whose being there says that it is done."""
        state = {"lessons": self.lessons, "model": self.model.get_state() if self.config.with_model else None}
        write_whole(self.folder / f"state-{update:02d}.pickle", pickle.dumps(state))
        write_whole(self._path(update), json.dumps(found).encode())
        (self.folder / f"state-{update - 1:02d}.pickle").unlink(missing_ok=True)

    def _go_on_after(self, update: int) -> None:
        if update == 0:
            return
        for period in range(update):
            self.memory.learn(self.periods.sessions[period], items=self.periods.known[period])
        state = pickle.loads((self.folder / f"state-{update:02d}.pickle").read_bytes())  # noqa: S301 - our own file
        self.lessons = state["lessons"]
        if state["model"] is not None:
            self.model.set_state(state["model"])


def full_retraining(
    periods: Periods, updates: list[int], config: RunConfig, *, seed: int, folder: Path, device: torch.device, say: Say
) -> list[Figures]:
    """Return the figures of full retraining on some updates, computing those that are not kept yet."""
    found = []
    for update in updates:
        path = folder / f"update-{update:02d}.json"
        if not path.exists():
            model, curve = retrain(periods, update, config.training, seed=seed, device=device)
            asked = questions_of_test(periods, update, config)
            ranks = _model_ranks(model, asked)
            figures = figures_of(periods, update, asked, {"full_retraining": ranks}) | {"training": asdict(curve)}
            write_whole(path, json.dumps(figures).encode())
            say(line_of(seed, figures))
        found.append(json.loads(path.read_text()))
    return found


def _model_ranks(model: SharedModel, asked: Questions) -> Ranks:
    parts = [
        ranks_of(scores_of(model, block.histories, block.lengths)[:, 1:], block.targets - 1) for block in blocks(asked)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def asked_of(sessions: Sessions, config: RunConfig) -> Questions:
    """Return the questions of some sessions, with histories as long as the network reads."""
    return questions(sessions, history_length=config.training.history_length)


def questions_of_test(periods: Periods, update: int, config: RunConfig) -> Questions:
    """Return the questions of an update's test."""
    return asked_of(periods.test(update), config)


def figures_of(periods: Periods, update: int, asked: Questions, ranks: dict[str, Ranks]) -> Figures:
    """Return the figures of a test by who answered."""
    known_before = periods.known[update - 2] if update > 1 else periods.known[0]  # at first all are equally new
    new = asked.targets > known_before
    found: Figures = {
        "update": update,
        "questions": len(asked),
        "sessions": len(periods.test(update)),
        "items": periods.known[update - 1],
        "new_item_questions": int(new.sum()),
        "learned_clicks": len(periods.sessions[update - 1].items),
    }
    return found | {name: Outcome(own, new).figures() for name, own in ranks.items()}


def line_of(seed: int, found: Figures) -> str:
    """Return one line on a finished update."""
    said = [
        f"{name} {found[name]['recall_20']:.2f}/{found[name]['mrr_20']:.2f}"
        for name in (*WHO, "full_retraining")
        if name in found
    ]
    training = found.get("training")
    seconds = f"; {training['seconds']:.0f} s in {len(training['losses'])} epochs" if training else ""
    return f"seed {seed} update {found['update']}: Recall@20/MRR@20 {', '.join(said)}{seconds}"
