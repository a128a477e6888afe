"""Several tasks learned together: one adapter of the encoder for all, a head for each, one round, one decision."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learners.rounds.gate import Verdict
from learners.tasks import storage
from learners.tasks.backbones import Backbone, StateCache, open_backbone
from learners.tasks.errors import InvalidTaskError, TaskDivergedError
from learners.tasks.examples import Example
from learners.tasks.joint_training import train_jointly
from learners.tasks.learner import MEMORY, Given, Material, Prediction, RoundOutcome, Rows, TaskLearner
from learners.tasks.model import TaskModel
from learners.tasks.sharing import ENCODER, TRUNK, changing, check_shared, tie, tied_copies
from learners.tasks.task import Task

ByTask = Mapping[str, Given]


class JointLearner:
    """Learns several tasks round by round, jointly; what serves is replaced only if no task has become worse.

    Args:
        tasks: Their declarations, with different names; they agree in what they share.
        seed: Of every random choice: equal seeds and equal rounds give equal models.
        share: `encoder`: one adapter (LoRA's additions or the whole encoder); pooling and head are each task's own.
            `trunk`: pooling and hidden layers are shared, too, by tasks that read the same fields.
        temperature: Of the turns that tasks take: 1: in proportion to their examples; higher: small tasks more often.
        memory: Most examples remembered of each task.
        encoder: Of texts; None: the one that the tasks name.
        cache: Of a frozen encoder's states, where other learners read the same texts; None: one of their own.

    Examples come by task, or as rows for all: a row teaches every task whose label it has.

    >>> tasks = [Task(name=name, kind="score", inputs=(), numbers=("debt",), target=name) for name in ("risk", "loss")]
    >>> rows = [{"debt": n % 7, "risk": n % 7 * 2.0, "loss": 9.0 - n % 7} for n in range(70)]
    >>> learner = JointLearner(tasks, seed=0, share="trunk")
    >>> {name: outcome.released for name, outcome in learner.learn(rows).items()}
    {'risk': True, 'loss': True}

    Raises:
        InvalidTaskError: If the tasks cannot be learned jointly.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int = 0,
        share: str = ENCODER,
        temperature: float = 1.0,
        memory: int = MEMORY,
        encoder: Backbone | None = None,
        cache: StateCache | None = None,
    ) -> None:
        check_shared(tasks, share)
        if not temperature > 0:
            raise InvalidTaskError(name="temperature", value=temperature, expected="above 0")
        self.tasks, self.seed, self.share, self.temperature = tuple(tasks), seed, share, temperature
        self.rounds = self.version = 0
        self.encoder, cache = encoder or open_backbone(tasks[0].text_encoder), cache or StateCache()
        self.learners = {
            task.name: TaskLearner(task, seed=seed, memory=memory, encoder=self.encoder, cache=cache) for task in tasks
        }
        tie(self._models, share)

    def learn(self, examples: ByTask | Rows) -> dict[str, RoundOutcome]:
        """Run one round over all tasks: the joint candidate serves if each task's gate lets it pass.

        A task of which too few examples came learns from what it remembers, and is judged on what judged it before.

        Args:
            examples: By task, or for all; oldest first. Of each task the newest share judges and is never learned.

        Returns:
            Of each task, by name: whether the candidate serves, and if not, which task refused it and why.
        """
        began = time.perf_counter()
        materials = {
            name: self.learners[name].material(rows) for name, rows in self.by_task(examples, labelled=True).items()
        }
        if all(material.lacking for material in materials.values()):
            return {name: self._outcome(name, materials[name]) for name in self.learners}
        rng = np.random.default_rng([self.seed, self.rounds])
        self.rounds += 1
        most = max(len(material.new) for material in materials.values())
        replayed = {
            name: learner.replayed(len(materials[name].new) or most, rng) for name, learner in self.learners.items()
        }
        found = self._round(materials, replayed, rng)
        for name, learner in self.learners.items():
            learner.remember(materials[name], rng)
        seconds = time.perf_counter() - began
        return {
            name: self._outcome(name, materials[name], replayed=len(replayed[name]), seconds=seconds, **found[name])
            for name in self.learners
        }

    def predict(self, examples: ByTask | Rows) -> dict[str, list[Prediction]]:
        """Answer examples by task, in the order given; rows for all are answered by each task."""
        asked = self.by_task(examples, labelled=False)
        return {name: self.learners[name].predict(rows) for name, rows in asked.items()}

    def evaluate(self, examples: ByTask | Rows) -> dict[str, dict[str, float]]:
        """Return each task's metrics, and how many examples could be used and how many not."""
        judging = self.by_task(examples, labelled=True)
        return {name: self.learners[name].evaluate(rows) for name, rows in judging.items()}

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Let every task forget, as `TaskLearner.forget`; returns how many examples went."""
        return sum(learner.forget(user_id, until_ms=until_ms) for learner in self.learners.values())

    def save(self, folder: Path) -> None:
        """Write everything into a folder, whole or not at all; what was saved there before is replaced.

        Raises:
            ReleaseWriteError: If the disk refuses; what was there before is untouched.
        """
        storage.save(
            folder,
            declared={
                "tasks": [task.as_dict() for task in self.tasks],
                "share": self.share,
                "temperature": self.temperature,
            },
            state={
                "seed": self.seed,
                "rounds": self.rounds,
                "version": self.version,
                "tasks": [learner.get_state() for learner in self.learners.values()],
            },
            learned={name: value.detach().clone() for name, value in changing(self._models).items()},
            encoder=self.encoder.fingerprint,
        )

    @classmethod
    def load(cls, folder: Path, *, encoder: Backbone | None = None) -> "JointLearner":
        """Read what `save` wrote.

        Raises:
            TaskNotFoundError: If nothing was saved there.
            CorruptTaskError: If it is not what `save` writes, or was learned beside another encoder.
        """
        saved = storage.load(folder)
        with storage.reading(folder):
            declared, state = saved.declared, saved.state
            learner = cls(
                [Task.from_dict(each) for each in declared["tasks"]],
                seed=state["seed"],
                share=declared["share"],
                temperature=declared["temperature"],
                memory=state["tasks"][0]["capacity"],
                encoder=encoder,
            )
            storage.check_encoder(folder, saved.encoder, learner.encoder.fingerprint)
            learner.rounds, learner.version = state["rounds"], state["version"]
            for each, its_state in zip(learner.learners.values(), state["tasks"], strict=True):
                each.set_state(its_state)
            with torch.no_grad():
                for name, value in changing(learner._models).items():
                    value.copy_(saved.learned[name])
        return learner

    def by_task(self, examples: ByTask | Rows, *, labelled: bool) -> dict[str, Given]:
        """Return each task's rows; of rows for all, where labels are wanted, those that have its label."""
        if isinstance(examples, Mapping):
            for name in examples:
                if name not in self.learners:
                    raise InvalidTaskError(name="name", value=name, expected=f"one of {', '.join(self.learners)}")
            return {name: examples.get(name, ()) for name in self.learners}
        if not labelled:
            return dict.fromkeys(self.learners, examples)
        return {task.name: labelled_rows(task, self.tasks, examples) for task in self.tasks}

    def candidates(
        self, materials: Mapping[str, Material], replayed: Mapping[str, Sequence[Example]]
    ) -> dict[str, TaskModel]:
        """Return tied copies to train; of tasks that learn for the first time numbers and labels are measured."""
        copies = dict(zip(self.learners, tied_copies(self._models), strict=True))
        learned = {name: materials[name].new or replayed[name] for name in self.learners}
        beginners = {name: rows for name, rows in learned.items() if rows and self.learners[name].version == 0}
        for name, examples in beginners.items():
            copies[name].measure_labels(examples)
            if self.share != TRUNK:
                copies[name].measure_numbers([example.numbers for example in examples])
        if self.share == TRUNK and self.version == 0:  # one measure for all that read the same numbers
            together = [example.numbers for examples in beginners.values() for example in examples]
            next(iter(copies.values())).measure_numbers(together)
        return copies

    @property
    def _models(self) -> list[TaskModel]:
        return [learner.model for learner in self.learners.values()]

    def _round(
        self, materials: Mapping[str, Material], replayed: Mapping[str, Sequence[Example]], rng: np.random.Generator
    ) -> dict[str, dict[str, Any]]:
        """Train a candidate, let each task judge it, and let it serve if all agree; what each outcome says of it."""
        candidates = self.candidates(materials, replayed)
        learned = [[*materials[name].new, *replayed[name]] for name in self.learners]
        try:
            losses = train_jointly(list(candidates.values()), learned, rng=rng, temperature=self.temperature)
        except TaskDivergedError as error:
            return {name: {"refusals": {error.task: str(error)}} for name in self.learners}
        taught = {
            name for name, rows in zip(self.learners, learned, strict=True) if rows or self.learners[name].version
        }
        found: dict[str, dict[str, Any]] = {}
        for (name, learner), its_losses in zip(self.learners.items(), losses, strict=True):
            found[name] = {"losses": tuple(its_losses)}
            if name in taught:  # else nothing is known of it yet, and its head is as it began
                verdict, metrics = learner.judged(candidates[name], materials[name], replayed[name])
                found[name] |= {"verdict": verdict, "metrics": metrics}
        refusals = {
            name: "; ".join(each["verdict"].reasons)
            for name, each in found.items()
            if "verdict" in each and not each["verdict"].passed
        }
        if not refusals:
            self._accept(candidates, taught)
        return {name: {**each, "refusals": refusals} for name, each in found.items()}

    def _accept(self, candidates: Mapping[str, TaskModel], taught: set[str]) -> None:
        self.version += 1
        for name, learner in self.learners.items():
            if name in taught:
                learner.accept(candidates[name])
            else:
                learner.model = candidates[name]

    def _outcome(
        self,
        name: str,
        material: Material,
        *,
        refusals: Mapping[str, str] | None = None,
        verdict: Verdict | None = None,
        **more: Any,
    ) -> RoundOutcome:
        """Return what came of a round for one task; `refusals` None: there was none."""
        said = [f"{task} refused: {reason}" for task, reason in (refusals or {}).items()]
        if refusals == {} and verdict is not None:
            said += verdict.reasons
        return RoundOutcome(
            released=refusals == {},
            reason="; ".join([*said, *([material.lacking] if material.lacking else [])]),
            version=self.learners[name].version,
            learned=len(material.new),
            held_out=len(material.held),
            rejected=material.rejected,
            verdict=verdict,
            **more,
        )


def labelled_rows(task: Task, tasks: Sequence[Task], rows: Rows) -> list[Mapping[str, Any]]:
    """Return the rows that have a task's label, and those without any task's, which it will reject with the reason.

    Args:
        task: One of the tasks.
        tasks: All that the rows are for.
        rows: Field -> value; of a label, null and blank are none.
    """

    def has(row: Mapping[str, Any], target: str) -> bool:
        return row.get(target) not in (None, "")

    return [row for row in rows if has(row, task.target) or not any(has(row, each.target) for each in tasks)]
