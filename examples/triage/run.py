"""Triage suggestions: a new department has five examples of each urgency, and a start that was learned for that.

NOT MEDICAL ADVICE. All messages were written for this example by people who are no physicians; nothing here was tested
on patients. Never decide by it.

Seven departments teach by Reptile: again and again a few steps on a few messages of one, then half of the way is
gone. The eighth sees five messages of each urgency, from that start, from random weights, and from a model that learned
all seven departments' messages in the ordinary way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from examples.common import canvas, leave, options_of, read_lines, show_table, spread
from learners.tasks.backbones import StateCache, open_backbone
from learners.tasks.examples import Example
from learners.tasks.model import TaskModel
from learners.tasks.task import Task
from learners.tasks.training import train

HERE = Path(__file__).parent
WARNING = "NOT MEDICAL ADVICE: messages and labels were made up for this example; nothing was tested on patients."
SHOTS = (0, 1, 3, 5)  # messages of each urgency that the new department has
TURNS, OUTER = 60, 0.5  # of Reptile: departments visited, and share of each visit's way that is gone at first
STARTS = {"scratch": "random weights", "pooled": "all others, ordinary", "meta": "meta-learned (Reptile)"}

Departments = dict[str, list[Example]]
Found = dict[str, dict[int, list[float]]]  # start -> shots -> accuracy, a value each seed


def main(arguments: list[str] | None = None) -> None:
    """Leave each department out in turn, print and draw how few messages it needs."""
    options = options_of("triage", __doc__, arguments, seeds=3)
    print(WARNING)
    task = Task.from_toml(HERE / "task.toml")
    task = replace(task, text_encoder="hash") if options.toy else task
    departments = read_departments(task)
    cache = StateCache()
    found: Found = {start: {shots: [] for shots in SHOTS} for start in STARTS}
    for seed in options.seeds:
        each = [
            leave_out(name, departments, task, cache, seed=seed, turns=10 if options.toy else TURNS)
            for name in list(departments)[: 2 if options.toy else None]
        ]
        for start in STARTS:
            for shots in SHOTS:
                found[start][shots].append(float(np.mean([one[start, shots] for one in each])))
    header = ("start", *(f"{shots} of each" for shots in SHOTS))
    show_table(header, [[STARTS[start], *map(spread, by_shots.values())] for start, by_shots in found.items()])
    print("right of three urgencies, mean over new departments; who guesses is right in 0.333")
    leave("triage", draw(found), found, options.out)
    print(WARNING)


def read_departments(task: Task) -> Departments:
    """Return each department's messages."""
    departments: Departments = {}
    for row in read_lines(HERE / "data" / "messages.jsonl"):
        example = task.validate(row)
        if isinstance(example, Example):
            departments.setdefault(str(row["department"]), []).append(example)
    return departments


def leave_out(
    new: str, departments: Departments, task: Task, cache: StateCache, *, seed: int, turns: int
) -> dict[tuple[str, int], float]:
    """Return what each start reaches in one new department after so many messages of each urgency."""
    rng = np.random.default_rng([seed, list(departments).index(new)])
    others = {name: messages for name, messages in departments.items() if name != new}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scratch = TaskModel(task, open_backbone(task.text_encoder), cache=cache).eval()
    starts = {"scratch": scratch, "pooled": pooled(scratch, others, rng), "meta": reptile(scratch, others, rng, turns)}
    seen, rest = split(departments[new], max(SHOTS), rng)
    reached = {}
    for name, start in starts.items():
        for shots in SHOTS:
            model = start.copy()
            if shots:
                train(model, [example for of_class in seen for example in of_class[:shots]], rng=rng)
            reached[name, shots] = accuracy(model, rest)
    return reached


def reptile(start: TaskModel, departments: Departments, rng: np.random.Generator, turns: int) -> TaskModel:
    """Return weights from which a few messages of a department suffice.

    Source: Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018, algorithm 1 (Adam within).
    """
    model, names = start.copy(), list(departments)
    for turn in range(turns):
        visited = model.copy()
        shots, _ = split(departments[names[rng.integers(len(names))]], max(SHOTS), rng)
        train(visited, [example for of_class in shots for example in of_class], rng=rng)
        way = OUTER * (1 - turn / turns)
        with torch.no_grad():
            for value, then in zip(model.trained().values(), visited.trained().values(), strict=True):
                value.lerp_(then, way)
    return model


def pooled(start: TaskModel, departments: Departments, rng: np.random.Generator) -> TaskModel:
    """Return what ordinary training on the messages of all departments gives."""
    model = start.copy()
    train(model, [example for messages in departments.values() for example in messages], rng=rng)
    return model


def split(
    messages: Sequence[Example], shots: int, rng: np.random.Generator
) -> tuple[list[list[Example]], list[Example]]:
    """Return some messages of each urgency, and all the others."""
    seen, rest = [], []
    for label in sorted({message.label or 0.0 for message in messages}):
        own = [message for message in messages if message.label == label]
        own = [own[place] for place in rng.permutation(len(own))]
        seen.append(own[:shots])
        rest += own[shots:]
    return seen, rest


def accuracy(model: TaskModel, messages: Sequence[Example]) -> float:
    """Return the share of messages whose urgency is right; chances that are all alike count as a guess."""
    chances = model.scores(messages)
    right = chances[np.arange(len(messages)), [int(message.label or 0) for message in messages]]
    best = chances.max(axis=1)
    return float(np.mean((right == best) / (chances == best[:, None]).sum(axis=1)))


def draw(found: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Accuracy in a department that nobody knew, over the messages that it has."""
    figure, (plot,) = canvas(width=6.5, height=3.8)
    for start, style in {"meta": "o-", "pooled": "^--", "scratch": "s-"}.items():
        values = np.array([found[start][shots] for shots in SHOTS])
        plot.plot(SHOTS, values.mean(axis=1), style, label=STARTS[start])
        plot.fill_between(SHOTS, values.min(axis=1), values.max(axis=1), alpha=0.2)
    plot.axhline(1 / 3, color="0.7", linewidth=1)
    plot.annotate("guessing", (max(SHOTS), 1 / 3), (0, 3), textcoords="offset points", ha="right", color="0.5")
    plot.set(xlabel="messages of each urgency in the new department", ylabel="urgency right", ylim=(0.2, 1))
    plot.set_title("made-up messages, not medical advice", fontsize=10)
    plot.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
