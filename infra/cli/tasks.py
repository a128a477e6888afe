"""`alluvium tasks`: learn a declared task from a file, judge it, and let it answer."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.cli import options
from infra.errors import UsageError
from infra.settings import Settings

if TYPE_CHECKING:
    from learners.knowledge.store import KnowledgeStore
    from learners.tasks.learner import RoundOutcome, TaskLearner
    from learners.tasks.task import Task

app = typer.Typer(help="Tasks: learn a declared task from a file, evaluate it, predict.", no_args_is_help=True)

TaskFile = Annotated[Path, typer.Argument(metavar="TASK.toml", help="The task's declaration.")]
Examples = Annotated[Path, typer.Argument(metavar="EXAMPLES", help="JSONL, CSV or Parquet, oldest first.")]
Saved = Annotated[Path, typer.Argument(metavar="DIR", help="What `tasks learn` wrote.")]


@app.command()
def learn(
    task_file: TaskFile,
    examples: Examples,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The learner is kept here; if it is, it goes on.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="The examples are cut into so many rounds.")] = 1,
    seed: options.Seed = None,
    report: options.Report = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Learn a task in rounds; with a Postgres set, start from the nearest knowledge and leave what was learned."""
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir, seed=seed)
    import torch

    from infra.example_files import read_examples
    from learners.tasks.task import Task

    torch.set_num_threads(settings.learning.threads)
    task = Task.from_toml(task_file)
    rows = read_examples(examples, task)
    learner = _learner(task, out, seed=settings.seed)
    store = _store(settings)
    size = -(-len(rows) // rounds)
    done = []
    for start in range(0, len(rows), max(size, 1)):
        done.append(_round(learner, rows[start : start + size], store))
        learner.save(out)
    if not done:
        raise UsageError(f"EXAMPLES is {str(examples)!r}; expected at least one row")
    _print_rounds(done)
    _write(report, {"task": task.as_dict(), "rounds": done})
    if not any(each["released"] for each in done):
        raise typer.Exit(1)


@app.command()
def evaluate(saved: Saved, examples: Examples, *, report: options.Report = None) -> None:
    """Judge a learned task on examples with labels."""
    options.read()
    from infra.example_files import read_examples
    from learners.tasks.learner import TaskLearner

    learner = TaskLearner.load(saved)
    found = learner.evaluate(read_examples(examples, learner.task))
    table = Table("metric", "value", title=f"{learner.task.key}, version {learner.version}")
    for name, value in found.items():
        table.add_row(name, f"{value:.4f}" if name not in {"examples", "rejected"} else f"{value:.0f}")
    Console().print(table)
    _write(report, {"task": learner.task.key, "version": learner.version, "metrics": found})


@app.command()
def predict(
    saved: Saved,
    examples: Examples,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Without: standard output.")] = None,
) -> None:
    """Answer examples, one JSON object a line, in the order of the file."""
    options.read()
    from dataclasses import asdict

    from infra.example_files import read_examples, write_lines
    from learners.tasks.learner import TaskLearner

    learner = TaskLearner.load(saved)
    answers: list[Mapping[str, Any]] = []
    for said in learner.predict(read_examples(examples, learner.task)):
        values = asdict(said)
        values["score"] = None if said.value is None else said.score  # JSON has no NaN
        answers.append(values)
    if out is not None:
        write_lines(out, answers)
        return
    for answer in answers:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")


def _learner(task: "Task", out: Path, *, seed: int) -> "TaskLearner":
    from learners.tasks.learner import TaskLearner
    from learners.tasks.storage import CURRENT

    if not (out / CURRENT).exists():
        return TaskLearner(task, seed=seed)
    learner = TaskLearner.load(out)
    if learner.task != task:
        raise UsageError(f"--out is {str(out)!r}, which holds {learner.task.key} declared otherwise; expected the same")
    return learner


def _store(settings: Settings) -> "KnowledgeStore | None":
    if settings.postgres.url is None:
        return None
    from infra.composition import knowledge_store

    store = knowledge_store(settings)
    store.create()
    return store


def _round(learner: "TaskLearner", rows: list[dict[str, Any]], store: "KnowledgeStore | None") -> dict[str, Any]:
    from learners.tasks.knowledge import SCRATCH, deposit, first_round

    if store is None:
        start = "" if learner.version else SCRATCH
        return _described(learner.learn(rows), start=start, kept=0)
    if learner.version:
        outcome, trial = learner.learn(rows), None
    else:
        outcome, trial = first_round(learner, rows, store)
    parents = trial.chosen.parents if trial else ()
    kept = deposit(store, learner, outcome, parents=parents) if outcome.released else ()
    return _described(outcome, start=trial.chosen.name if trial else "", kept=len(kept))


def _described(outcome: "RoundOutcome", *, start: str, kept: int) -> dict[str, Any]:
    return {
        "released": outcome.released,
        "reason": outcome.reason,
        "version": outcome.version,
        "learned": outcome.learned,
        "replayed": outcome.replayed,
        "held_out": outcome.held_out,
        "rejected": [each.reason for each in outcome.rejected],
        "metrics": dict(outcome.metrics),
        "start": start,
        "kept": kept,
        "seconds": round(outcome.seconds, 3),
    }


def _print_rounds(rounds: list[dict[str, Any]]) -> None:
    table = Table("round", "released", "version", "learned", "rejected", "start", "metrics on the newest", "why")
    for number, each in enumerate(rounds, start=1):
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in each["metrics"].items())
        cells = [str(number), "yes" if each["released"] else "NO", str(each["version"]), str(each["learned"])]
        table.add_row(*cells, str(len(each["rejected"])), each["start"], metrics, each["reason"])
    Console().print(table)


def _write(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
