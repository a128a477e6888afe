"""The learner of one task: rounds over new and remembered examples, a gate, and answers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learners.errors import DivergedError
from learners.gate import FROZEN, NEWEST, Verdict
from learners.tasks import judging, storage
from learners.tasks.backbones import Backbone, open_backbone
from learners.tasks.errors import InvalidTaskError
from learners.tasks.examples import Example, RejectedExample
from learners.tasks.memory import ExampleMemory
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import class_weights, train

MEMORY, EXAM = 2000, 512
LEAST_EXAMPLES = 4  # of a round; with fewer there is nothing to hold out
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a task says of one example.

    Args:
        value: The likeliest class, or the number; None where the example was rejected.
        score: The class's chance, or the number again; NaN where the example was rejected.
        chances: Class -> chance, of `classify`.
        version: Of the model that said it; 0: nothing was learned yet.
        rejected: Why there is no answer; empty where there is one.
    """

    value: str | float | None
    score: float
    chances: Mapping[str, float] = field(default_factory=dict)
    version: int = 0
    rejected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """What came of a round.

    Args:
        released: Whether the candidate serves now.
        reason: Why, or why not.
        version: Of what serves now.
        learned: New examples trained on.
        replayed: Remembered examples trained on.
        held_out: Newest examples that judged.
        rejected: Examples that could not be used, with the reason.
        metrics: Of the candidate on the newest window; empty where it never got so far.
        verdict: The gate's, with its evidence; None where it never got so far.
        losses: Of every optimizer step.
        seconds: What it took.
    """

    released: bool
    reason: str
    version: int
    learned: int = 0
    replayed: int = 0
    held_out: int = 0
    rejected: tuple[RejectedExample, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    losses: tuple[float, ...] = ()
    seconds: float = 0.0


class TaskLearner:
    """Learns a task round by round; what serves is replaced only by what passed the gate.

    Args:
        task: The declaration.
        seed: Of every random choice: equal seeds and equal rounds give equal models.
        memory: Most examples remembered.
        encoder: Of texts; None: the one that the task names.

    >>> task = Task(name="topic", kind="classify", inputs=("text",), target="topic", classes=("tea", "mug"),
    ...             text_encoder="hash")
    >>> rows = [{"text": f"{word} number {n}", "topic": word} for n in range(40) for word in ("tea", "mug")]
    >>> learner = TaskLearner(task, seed=1)
    >>> learner.learn(rows).released, learner.predict([{"text": "a mug"}])[0].value
    (True, 'mug')

    Raises:
        InvalidTaskError: If the task is of kind `sequence`.
    """

    def __init__(self, task: Task, *, seed: int = 0, memory: int = MEMORY, encoder: Backbone | None = None) -> None:
        if task.kind == "sequence":
            expected = "pair, classify or score; sequence tasks are learned by SequenceLearner"
            raise InvalidTaskError(name="kind", value=task.kind, expected=expected)
        self.task, self.seed = task, seed
        self.version = self.rounds = 0
        self.memory = ExampleMemory(capacity=memory, strata=max(len(task.classes), 1))
        self.exam = ExampleMemory(capacity=EXAM, strata=max(len(task.classes), 1))
        self._encoder = encoder or open_backbone(task.text_encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = TaskModel(task, self._encoder).eval()

    def learn(self, examples: Rows) -> RoundOutcome:
        """Run a round: train a copy on new and remembered examples, and let it serve if the gate lets it pass.

        Args:
            examples: Field -> value, oldest first. The newest share judges and is never learned.
        """
        began = time.perf_counter()
        checked = [self.task.validate(values) for values in examples]
        rejected = tuple(each for each in checked if isinstance(each, RejectedExample))
        usable = [each for each in checked if isinstance(each, Example)]
        if len(usable) < LEAST_EXAMPLES:
            reason = f"too few examples: {len(usable)}; at least {LEAST_EXAMPLES} needed"
            return RoundOutcome(released=False, reason=reason, version=self.version, rejected=rejected)
        rng = np.random.default_rng([self.seed, self.rounds])
        self.rounds += 1
        cut = len(usable) - max(round(self.task.training.hold_out * len(usable)), 1)
        new, held = usable[:cut], usable[cut:]
        outcome = self._round(new, held, rng)
        self.memory.add(new, rng)
        self.exam.add(held, rng)
        return RoundOutcome(
            **outcome,
            version=self.version,
            learned=len(new),
            held_out=len(held),
            rejected=rejected,
            seconds=time.perf_counter() - began,
        )

    def predict(self, examples: Rows) -> list[Prediction]:
        """Answer each example, in the order given; what cannot be read gets the reason instead."""
        checked = [self.task.validate(values, labelled=False) for values in examples]
        scores = iter(self.model.scores([each for each in checked if isinstance(each, Example)]))
        return [
            Prediction(value=None, score=float("nan"), version=self.version, rejected=each.reason)
            if isinstance(each, RejectedExample)
            else self._prediction(next(scores))
            for each in checked
        ]

    def evaluate(self, examples: Rows) -> dict[str, float]:
        """Return the kind's metrics, and how many examples could be used and how many not."""
        checked = [self.task.validate(values) for values in examples]
        usable = [each for each in checked if isinstance(each, Example)]
        found = judging.metrics_of(self.task, self.model.scores(usable), usable) if usable else {}
        return {**found, "examples": float(len(usable)), "rejected": float(len(checked) - len(usable))}

    def save(self, folder: Path) -> None:
        """Write everything into a folder, whole or not at all; what was saved there before is replaced.

        Raises:
            ReleaseWriteError: If the disk refuses; what was there before is untouched.
        """
        state = {
            "seed": self.seed,
            "version": self.version,
            "rounds": self.rounds,
            "capacity": self.memory.capacity,
            "memory": self.memory.get_state(),
            "exam": self.exam.get_state(),
        }
        storage.save(
            folder, task=self.task, state=state, learned=self.model.learned(), encoder=self._encoder.fingerprint
        )

    @classmethod
    def load(cls, folder: Path, *, encoder: Backbone | None = None) -> "TaskLearner":
        """Read what `save` wrote.

        Raises:
            TaskNotFoundError: If nothing was saved there.
            CorruptTaskError: If it is not what `save` writes, or was learned beside another encoder.
        """
        saved = storage.load(folder)
        state = saved.state
        with storage.reading(folder):
            learner = cls(saved.task, seed=state["seed"], memory=state["capacity"], encoder=encoder)
            storage.check_encoder(folder, saved.encoder, learner._encoder.fingerprint)
            learner.version, learner.rounds = state["version"], state["rounds"]
            learner.memory.set_state(state["memory"])
            learner.exam.set_state(state["exam"])
            learner.model.restore(saved.learned)
        return learner

    def candidate(self, examples: Sequence[Example]) -> TaskModel:
        """Return a copy of what serves, to be trained; a first one measures numbers and labels by the examples."""
        copied = self.model.copy()
        if self.version == 0:
            copied.standardise(examples)
        return copied

    def _round(self, new: Sequence[Example], held: Sequence[Example], rng: np.random.Generator) -> dict[str, Any]:
        replayed = self.memory.sample(round(self.task.training.replay * len(new)), rng)
        candidate = self.candidate(new)
        try:
            losses = train(candidate, [*new, *replayed], rng=rng)
        except DivergedError as error:
            return {"released": False, "reason": str(error), "replayed": len(replayed)}
        windows = {NEWEST: held, FROZEN: self.exam.examples()}
        weights = class_weights([*new, *replayed], len(self.task.classes)).numpy()
        answers = {name: candidate.scores(examples) for name, examples in windows.items()}

        def gained(predicted: Mapping[str, Any]) -> dict[str, Any]:
            spread = float(candidate.label_spread)
            return {
                name: judging.gains(self.task, predicted[name], examples, spread=spread, weights=weights)
                for name, examples in windows.items()
                if examples
            }

        finite = all(np.isfinite(found).all() for found in answers.values())
        first = self.version == 0
        rival = {
            name: judging.constant_answer(self.task, new, len(examples)) if first else self.model.scores(examples)
            for name, examples in windows.items()
        }
        verdict = judging.judge_task(gained(answers), gained(rival), first=first, finite=finite)
        if verdict.passed:
            self.model, self.version = candidate, self.version + 1
        return {
            "released": verdict.passed,
            "reason": "; ".join(verdict.reasons),
            "replayed": len(replayed),
            "verdict": verdict,
            "metrics": judging.metrics_of(self.task, answers[NEWEST], held) if finite else {},
            "losses": tuple(losses),
        }

    def _prediction(self, scores: Any) -> Prediction:
        if self.task.kind != "classify":
            return Prediction(value=float(scores), score=float(scores), version=self.version)
        chances = dict(zip(self.task.classes, map(float, scores), strict=True))
        likeliest = max(chances, key=lambda label: chances[label])
        return Prediction(value=likeliest, score=chances[likeliest], chances=chances, version=self.version)
