"""The learner of one task: rounds over new and remembered examples, a gate, and answers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learners.errors import DivergedError
from learners.rounds.gate import FROZEN, NEWEST, Verdict
from learners.tasks import judging, storage
from learners.tasks.backbones import Backbone, StateCache, open_backbone
from learners.tasks.config import refuse_sequence
from learners.tasks.examples import Example, RejectedExample
from learners.tasks.memory import ExampleMemory
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import class_weights, train

MEMORY, EXAM = 2000, 512
LEAST_EXAMPLES = 4  # of a round; with fewer there is nothing to hold out
Rows = Sequence[Mapping[str, Any]]
Given = Sequence[Mapping[str, Any] | Example]  # rows, or what the task has already checked
Offsets = Mapping[str, Mapping[str, int]]  # task's name -> source partition -> next offset not yet learned


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a round has of one task.

    Args:
        new: Examples to be learned, oldest first; empty where too few came for a round.
        held: The newest, which judge.
        rejected: What could not be used, with the reason.
        usable: How many could; 0 to all of them are in `new` and `held`.
    """

    new: Sequence[Example]
    held: Sequence[Example]
    rejected: tuple[RejectedExample, ...]
    usable: int

    @property
    def lacking(self) -> str:
        """Why there is no round; empty where there can be one."""
        return "" if self.new else f"too few examples: {self.usable}; at least {LEAST_EXAMPLES} needed"


class TaskLearner:
    """Learns a task round by round; what serves is replaced only by what passed the gate.

    Args:
        task: The declaration.
        seed: Of every random choice: equal seeds and equal rounds give equal models.
        memory: Most examples remembered.
        encoder: Of texts; None: the one that the task names.
        cache: Of the frozen encoder's states, where other learners read the same texts; None: one of its own.

    >>> task = Task(name="topic", kind="classify", inputs=("text",), target="topic", classes=("tea", "mug"),
    ...             text_encoder="hash")
    >>> rows = [{"text": f"{word} number {n}", "topic": word} for n in range(40) for word in ("tea", "mug")]
    >>> learner = TaskLearner(task, seed=1)
    >>> learner.learn(rows).released, learner.predict([{"text": "a mug"}])[0].value
    (True, 'mug')

    Raises:
        InvalidTaskError: If the task is of kind `sequence`.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int = 0,
        memory: int = MEMORY,
        encoder: Backbone | None = None,
        cache: StateCache | None = None,
    ) -> None:
        refuse_sequence(task.kind)
        self.task, self.seed = task, seed
        self.version = self.rounds = 0
        self.memory = ExampleMemory(capacity=memory, strata=max(len(task.classes), 1))
        self.exam = ExampleMemory(capacity=EXAM, strata=max(len(task.classes), 1))
        self.encoder = encoder or open_backbone(task.text_encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = TaskModel(task, self.encoder, cache=cache).eval()

    def learn(self, examples: Given) -> RoundOutcome:
        """Run a round: train a copy on new and remembered examples, and let it serve if the gate lets it pass.

        Args:
            examples: Field -> value, oldest first. The newest share judges and is never learned.
        """
        began = time.perf_counter()
        material = self.material(examples)
        if material.lacking:
            return RoundOutcome(
                released=False, reason=material.lacking, version=self.version, rejected=material.rejected
            )
        rng = np.random.default_rng([self.seed, self.rounds])
        self.rounds += 1
        outcome = self._round(material, rng)
        self.remember(material, rng)
        return RoundOutcome(
            **outcome,
            version=self.version,
            learned=len(material.new),
            held_out=len(material.held),
            rejected=material.rejected,
            seconds=time.perf_counter() - began,
        )

    def predict(self, examples: Given) -> list[Prediction]:
        """Answer each example, in the order given; what cannot be read gets the reason instead."""
        checked = [self.task.validate(values, labelled=False) for values in examples]
        scores = iter(self.model.scores([each for each in checked if isinstance(each, Example)]))
        return [
            Prediction(value=None, score=float("nan"), version=self.version, rejected=each.reason)
            if isinstance(each, RejectedExample)
            else self._prediction(next(scores))
            for each in checked
        ]

    def evaluate(self, examples: Given) -> dict[str, float]:
        """Return the kind's metrics, and how many examples could be used and how many not."""
        checked = [self.task.validate(values) for values in examples]
        usable = [each for each in checked if isinstance(each, Example)]
        found = judging.metrics_of(self.task, self.model.scores(usable), usable) if usable else {}
        return {**found, "examples": float(len(usable)), "rejected": float(len(checked) - len(usable))}

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remember nothing of a person's examples up to and including a time; returns how many went.

        What serves was learned from them and stays as it is; rounds from now on learn and judge without them.
        """
        self.model.forget_states()
        return sum(held.forget(user_id, until_ms=until_ms) for held in (self.memory, self.exam))

    def save(self, folder: Path) -> None:
        """Write everything into a folder, whole or not at all; what was saved there before is replaced.

        Raises:
            ReleaseWriteError: If the disk refuses; what was there before is untouched.
        """
        storage.save(
            folder,
            declared={"task": self.task.as_dict()},
            state=self.get_state(),
            learned=self.model.learned(),
            encoder=self.encoder.fingerprint,
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
            task = Task.from_dict(saved.declared["task"])
            learner = cls(task, seed=state["seed"], memory=state["capacity"], encoder=encoder)
            storage.check_encoder(folder, saved.encoder, learner.encoder.fingerprint)
            learner.set_state(state)
            learner.model.restore(saved.learned)
        return learner

    def get_state(self) -> dict[str, Any]:
        """Return all but the model, as JSON-able values."""
        return {
            "seed": self.seed,
            "version": self.version,
            "rounds": self.rounds,
            "capacity": self.memory.capacity,
            "memory": self.memory.get_state(),
            "exam": self.exam.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described; seed and capacity are the constructor's."""
        self.version, self.rounds = state["version"], state["rounds"]
        self.memory.set_state(state["memory"])
        self.exam.set_state(state["exam"])

    # ---- a round's steps, which several tasks take together in `learners.tasks.joint`

    def material(self, examples: Given) -> Material:
        """Check examples, oldest first, and hold the newest share of them out."""
        checked = [self.task.validate(values) for values in examples]
        rejected = tuple(each for each in checked if isinstance(each, RejectedExample))
        usable = [each for each in checked if isinstance(each, Example)]
        if len(usable) < LEAST_EXAMPLES:
            return Material(new=(), held=(), rejected=rejected, usable=len(usable))
        cut = len(usable) - max(round(self.task.training.hold_out * len(usable)), 1)
        return Material(new=usable[:cut], held=usable[cut:], rejected=rejected, usable=len(usable))

    def replayed(self, count: int, rng: np.random.Generator) -> list[Example]:
        """Return what is to be learned again beside so many new examples."""
        return self.memory.sample(round(self.task.training.replay * count), rng)

    def candidate(self, examples: Sequence[Example]) -> TaskModel:
        """Return a copy of what serves, to be trained; a first one measures numbers and labels by the examples."""
        copied = self.model.copy()
        if self.version == 0:
            copied.standardise(examples)
        return copied

    def judged(
        self, candidate: TaskModel, material: Material, replayed: Sequence[Example]
    ) -> tuple[Verdict, dict[str, float]]:
        """Compare a trained candidate with what serves, or a first one with the best constant answer.

        Args:
            candidate: Not changed.
            material: What it learned, and the newest examples, which judge.
            replayed: What else it learned.

        Returns:
            The gate's verdict, and the candidate's metrics on the newest examples; none where answers are not finite.
        """
        windows = {NEWEST: material.held, FROZEN: self.exam.examples()}
        learned = [*material.new, *replayed] or self.exam.examples()
        weights = class_weights(learned, len(self.task.classes)).numpy()
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
            name: judging.constant_answer(self.task, material.new or replayed, len(examples))
            if first
            else self.model.scores(examples)
            for name, examples in windows.items()
        }
        verdict = judging.judge_task(gained(answers), gained(rival), first=first, finite=finite)
        return verdict, judging.metrics_of(self.task, answers[NEWEST], material.held) if finite else {}

    def accept(self, candidate: TaskModel) -> None:
        """Let a candidate serve."""
        self.model, self.version = candidate, self.version + 1

    def remember(self, material: Material, rng: np.random.Generator) -> None:
        """Keep what was learned for replay, and what judged for later rounds' judging."""
        self.memory.add(material.new, rng)
        self.exam.add(material.held, rng)

    def _round(self, material: Material, rng: np.random.Generator) -> dict[str, Any]:
        replayed = self.replayed(len(material.new), rng)
        candidate = self.candidate(material.new)
        try:
            losses = train(candidate, [*material.new, *replayed], rng=rng)
        except DivergedError as error:
            return {"released": False, "reason": str(error), "replayed": len(replayed)}
        verdict, metrics = self.judged(candidate, material, replayed)
        if verdict.passed:
            self.accept(candidate)
        return {
            "released": verdict.passed,
            "reason": "; ".join(verdict.reasons),
            "replayed": len(replayed),
            "verdict": verdict,
            "metrics": metrics,
            "losses": tuple(losses),
        }

    def _prediction(self, scores: Any) -> Prediction:
        if self.task.kind != "classify":
            return Prediction(value=float(scores), score=float(scores), version=self.version)
        chances = dict(zip(self.task.classes, map(float, scores), strict=True))
        likeliest = max(chances, key=lambda label: chances[label])
        return Prediction(value=likeliest, score=chances[likeliest], chances=chances, version=self.version)
