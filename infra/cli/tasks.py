"""`alluvium tasks`: learn a declared task from a file, judge it, and let it answer."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    from learners.tasks.joint import JointLearner
    from learners.tasks.learner import Given, RoundOutcome, TaskLearner
    from learners.tasks.task import Task

app = typer.Typer(help="Tasks: learn a declared task from a file, evaluate it, predict.", no_args_is_help=True)

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="TASK.toml... EXAMPLES...",
        help="The declaration, several to learn them jointly; then JSONL, CSV or Parquet, oldest first: one file,"
        " or one for each task.",
    ),
]
Examples = Annotated[Path, typer.Argument(metavar="EXAMPLES", help="JSONL, CSV or Parquet, oldest first.")]
Saved = Annotated[Path, typer.Argument(metavar="DIR", help="What `tasks learn` wrote.")]


@app.command()
def learn(
    files: Files,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The learner is kept here; if it is, it goes on.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="The examples are cut into so many rounds.")] = 1,
    share: Annotated[str, typer.Option("--share", help="What several tasks share: encoder or trunk.")] = "encoder",
    temperature: Annotated[
        float, typer.Option("--temperature", min=1.0, help="Above 1: of several tasks small ones come more often.")
    ] = 1.0,
    seed: options.Seed = None,
    report: options.Report = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Learn a task in rounds, or several jointly; with a Postgres set, leave what was learned as knowledge."""
    settings = options.read(postgres_url=postgres_url, data_dir=data_dir, seed=seed)
    import torch

    from infra.cli.joint_tasks import opened, split_files
    from learners.tasks.sharing import check_shared
    from learners.tasks.task import Task

    torch.set_num_threads(settings.learning.threads)
    declared, examples = split_files(files)
    tasks = [Task.from_toml(path) for path in declared]
    check_shared(tasks, share)
    store = _store(settings)
    if len(tasks) == 1:
        done = _learn_one(tasks[0], examples[0], out, rounds=rounds, seed=settings.seed, store=store)
        described: dict[str, Any] = {"task": tasks[0].as_dict()}
    else:
        learner = opened(tasks, out, seed=settings.seed, share=share, temperature=temperature)
        done = _learn_jointly(learner, examples, out, rounds=rounds, store=store)
        described = {"tasks": [task.as_dict() for task in tasks], "share": share, "temperature": temperature}
    if not done:
        raise UsageError(f"EXAMPLES is {', '.join(map(str, examples))!r}; expected at least one row")
    _print_rounds(done)
    _print_rejected(reason for each in done for reason in each["rejected"])
    _write(report, {**described, "rounds": done})
    if not any(each["released"] for each in done):
        raise typer.Exit(1)


@app.command()
def evaluate(saved: Saved, examples: Examples, *, report: options.Report = None) -> None:
    """Judge what was learned on examples with labels; of several tasks each on those that have its label."""
    options.read()
    from infra.cli.joint_tasks import learners_of, read_by_task, rejections

    learners = learners_of(saved)
    rows = read_by_task([examples], [learner.task for learner in learners.values()], labelled=True)
    rejected = [reason for name, learner in learners.items() for reason in rejections(learner.task, rows[name])]
    if len(rejected) == sum(map(len, rows.values())):
        why = f"; the first is rejected because {rejected[0]}" if rejected else ""
        raise UsageError(f"EXAMPLES is {str(examples)!r}; expected at least one example that can be judged{why}")
    found = []
    for name, learner in learners.items():
        metrics = learner.evaluate(rows[name])
        table = Table("metric", "value", title=f"{learner.task.key}, version {learner.version}")
        for metric, value in metrics.items():
            table.add_row(metric, f"{value:.4f}" if metric not in {"examples", "rejected"} else f"{value:.0f}")
        Console().print(table)
        found.append({"task": learner.task.key, "version": learner.version, "metrics": metrics})
    _print_rejected(rejected)
    _write(report, found[0] if len(found) == 1 else {"tasks": found})


@app.command()
def predict(
    saved: Saved,
    examples: Examples,
    *,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Without: standard output.")] = None,
) -> None:
    """Answer examples, one JSON object a line, in the order of the file; of several tasks by the task's name."""
    options.read()
    from infra.cli.joint_tasks import answer_of, learners_of, read_by_task
    from infra.example_files import write_lines

    learners = learners_of(saved)
    rows = read_by_task([examples], [learner.task for learner in learners.values()], labelled=False)
    said = {name: [answer_of(each) for each in learner.predict(rows[name])] for name, learner in learners.items()}
    answers: list[Mapping[str, Any]] = (
        [*next(iter(said.values()))]
        if len(said) == 1
        else [dict(zip(said, line, strict=True)) for line in zip(*said.values(), strict=True)]
    )
    if out is not None:
        write_lines(out, answers)
        return
    for answer in answers:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")


def _learn_one(
    task: "Task", examples: Path, out: Path, *, rounds: int, seed: int, store: "KnowledgeStore | None"
) -> list[dict[str, Any]]:
    from infra.example_files import read_examples

    rows = read_examples(examples, task)
    learner = _learner(task, out, seed=seed)
    size = max(-(-len(rows) // rounds), 1)
    parts = (rows[start : start + size] for start in range(0, len(rows), size))
    return [described for part in parts for described in _round(learner, {task.name: part}, out, store).values()]


def _learn_jointly(
    learner: "JointLearner", examples: Sequence[Path], out: Path, *, rounds: int, store: "KnowledgeStore | None"
) -> list[dict[str, Any]]:
    from infra.cli.joint_tasks import in_rounds, read_by_task

    parts = in_rounds(read_by_task(examples, learner.tasks, labelled=True), rounds)
    done = (_round(learner, part, out, store) for part in parts)
    return [{"task": name, **described} for each in done for name, described in each.items()]


def _learner(task: "Task", out: Path, *, seed: int) -> "TaskLearner":
    from infra.cli.joint_tasks import is_joint
    from learners.tasks.learner import TaskLearner
    from learners.tasks.storage import CURRENT

    if not (out / CURRENT).exists():
        return TaskLearner(task, seed=seed)
    if is_joint(out):
        raise UsageError(f"--out is {str(out)!r}, which holds tasks that were learned jointly; expected one, or none")
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


def _round(
    learner: "TaskLearner | JointLearner",
    examples: "Mapping[str, Given]",
    out: Path,
    store: "KnowledgeStore | None",
) -> dict[str, dict[str, Any]]:
    from learners.tasks import accumulation

    learned = accumulation.learn(learner, examples, store=store)
    learner.save(out)  # before the store may refuse
    kept = accumulation.keep(learner, learned, store=store) if store is not None else dict.fromkeys(learned.outcomes, 0)
    start = learned.start.name if learned.start is not None else ""
    return {name: _described(outcome, start=start, kept=kept[name]) for name, outcome in learned.outcomes.items()}


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
    names = list(dict.fromkeys(each.get("task", "") for each in rounds))
    for place, each in enumerate(rounds):
        number = f"{place // len(names) + 1} {each.get('task', '')}".strip()
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in each["metrics"].items())
        cells = [number, "yes" if each["released"] else "NO", str(each["version"]), str(each["learned"])]
        table.add_row(*cells, str(len(each["rejected"])), each["start"], metrics, each["reason"])
    Console().print(table)


def _print_rejected(reasons: Iterable[str]) -> None:
    for reason, count in Counter(reasons).most_common(3):
        typer.echo(f"rejected {count}: {reason}")


def _write(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
