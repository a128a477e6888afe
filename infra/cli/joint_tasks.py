"""What `alluvium tasks` does with several declarations at once: they are learned jointly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from infra.example_files import read_examples
from learners.tasks.examples import RejectedExample
from learners.tasks.joint import JointLearner, labelled_rows
from learners.tasks.learner import Prediction, TaskLearner
from learners.tasks.storage import CURRENT, load
from learners.tasks.task import Task

Rows = list[dict[str, Any]]


def split_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return declarations and examples out of what stands on the command line.

    >>> split_files([Path("a.toml"), Path("b.toml"), Path("rows.csv")])
    ([PosixPath('a.toml'), PosixPath('b.toml')], [PosixPath('rows.csv')])

    Raises:
        UsageError: If there is no declaration, or not one file of examples for all nor one for each.
    """
    declared = [path for path in files if path.suffix.lower() == ".toml"]
    examples = [path for path in files if path not in declared]
    if not declared:
        raise UsageError(f"FILES are {', '.join(map(str, files))}; expected TASK.toml first, then EXAMPLES")
    if len(examples) not in {1, len(declared)}:
        expected = "one" if len(declared) == 1 else f"one file for all tasks, or {len(declared)}, one a task in order"
        raise UsageError(f"EXAMPLES are {len(examples)} files; expected {expected}")
    return declared, examples


def read_by_task(examples: Sequence[Path], tasks: Sequence[Task], *, labelled: bool) -> dict[str, Rows]:
    """Return each task's rows; of one file for all, where labels are wanted, those that have its label."""
    if len(examples) == len(tasks):
        return {task.name: read_examples(path, task) for path, task in zip(examples, tasks, strict=True)}
    found: dict[str, Rows] = {}
    for task in tasks:
        rows = read_examples(examples[0], task)
        found[task.name] = [dict(row) for row in labelled_rows(task, tasks, rows)] if labelled else rows
    return found


def opened(tasks: Sequence[Task], out: Path, *, seed: int, share: str, temperature: float) -> JointLearner:
    """Return what lies in a folder, or a new learner.

    Raises:
        UsageError: If the folder holds tasks that are declared otherwise.
    """
    if not (out / CURRENT).exists():
        return JointLearner(tasks, seed=seed, share=share, temperature=temperature)
    if not is_joint(out):
        raise UsageError(f"--out is {str(out)!r}, which holds a task that was learned alone; expected several, or none")
    learner = JointLearner.load(out)
    if (learner.tasks, learner.share, learner.temperature) != (tuple(tasks), share, temperature):
        held = ", ".join(task.key for task in learner.tasks)
        raise UsageError(f"--out is {str(out)!r}, which holds {held} declared otherwise; expected the same")
    return learner


def in_rounds(rows: Mapping[str, Rows], rounds: int) -> list[dict[str, Rows]]:
    """Cut each task's rows into so many parts, oldest first; parts without a row are left out.

    >>> in_rounds({"a": [{"n": 1}, {"n": 2}], "b": [{"n": 3}]}, 2)
    [{'a': [{'n': 1}], 'b': []}, {'a': [{'n': 2}], 'b': [{'n': 3}]}]
    """
    parts = [
        {name: held[number * len(held) // rounds : (number + 1) * len(held) // rounds] for name, held in rows.items()}
        for number in range(rounds)
    ]
    return [part for part in parts if any(part.values())]


def is_joint(saved: Path) -> bool:
    """Whether a folder holds jointly learned tasks.

    Raises:
        TaskNotFoundError: If nothing was saved there.
        CorruptTaskError: If it cannot be read.
    """
    return "tasks" in load(saved).declared


def learners_of(saved: Path) -> dict[str, TaskLearner]:
    """Return the learner of each task that a folder holds, by the task's name."""
    if is_joint(saved):
        return JointLearner.load(saved).learners
    learner = TaskLearner.load(saved)
    return {learner.task.name: learner}


def rejections(task: Task, rows: Rows) -> list[str]:
    """Return why a task cannot judge by some of its rows, a reason for each of them."""
    return [each.reason for each in map(task.validate, rows) if isinstance(each, RejectedExample)]


def answer_of(said: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON-able values."""
    values = asdict(said)
    values["score"] = None if said.value is None else said.score  # JSON has no NaN
    return values
