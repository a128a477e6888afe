"""`alluvium bench forgetting`: five tasks one after another, and what is left of each in the end.

Relevance (Home Depot), price band of a title (Online Retail), opinion (sentences written for this), buyer or not
(REES46), kind of a phrase (Taobao, Chinese). Naive fine-tuning of one encoder, one adapter for all without and with
replay, and the knowledge store: an adapter and a head of each task's own, read back from it. docs/tasks.md says more.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import torch
from rich.console import Console

from benchmarks.ingest import machine
from benchmarks.knowledge_parts.common import DATA, once, write
from benchmarks.knowledge_parts.tables import console_table, markdown_table, spread, yes
from benchmarks.task_parts.five_tasks import TASKS, Lesson, lessons, toy_lessons
from benchmarks.task_parts.sequences import SEQUENCES, Matrix, average_accuracy, backward_transfer
from infra.embedded.postgres import EmbeddedPostgres
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.store import KnowledgeStore
from learners.tasks.backbones import StateCache
from learners.tasks.config import TrainingConfig

STATE = Path("alluvium-data") / "bench-forgetting"
STORE, NAIVE = "store", "naive fine-tuning"
BAR = -0.01  # backward transfer with the store
HEADER = ("method", *TASKS, "average accuracy", "backward transfer")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, print the table, write JSON, Markdown and a plot."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    console, cache = Console(width=180), StateCache()
    state = options.state / f"forgetting-{_digest(options)}"
    found: dict[str, list[dict[str, Any]]] = {}
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder, EmbeddedPostgres() as server:
        for seed in range(options.seeds):
            sequence = _lessons(options, seed)
            for name, way in SEQUENCES.items():
                store = _store(server.url, f"forgetting_{seed}", Path(folder) / str(seed))
                run = partial(way, sequence, seed=seed, store=store, cache=cache)
                figures = once(state / str(seed) / f"{name.replace(' ', '-').lower()}.json", run)
                found.setdefault(name, []).append(figures)
                told = (
                    f"{average_accuracy(figures['matrix']):.4f}, transfer {backward_transfer(figures['matrix']):+.4f}"
                )
                console.print(f"seed {seed}, {name}: average accuracy {told}", soft_wrap=True)
                report = _report(found, sequence, options)
                write(options, report, markdown(report))
    console.print(console_table("bench forgetting: accuracy", HEADER, table_rows(report["methods"])))
    for line in said(report["claims"]):
        console.print(line, soft_wrap=True)
    if options.plot is not None:
        plot(report, options.plot)


def claims(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Return which bars are met, of those whose methods are there."""
    if not {STORE, NAIVE} <= methods.keys():
        return {}
    ours, theirs = (float(np.mean(methods[name]["backward_transfer"])) for name in (STORE, NAIVE))
    return {
        f"backward transfer with the store is at least -1 point ({100 * ours:+.2f})": ours >= BAR,
        f"naive fine-tuning forgets more ({100 * theirs:+.2f} points)": theirs < ours,
    }


def table_rows(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the main table's cells: accuracy on each task after the last, a method a row."""
    rows = []
    for name, figures in methods.items():
        final = [spread([matrix[-1][place] for matrix in figures["matrices"]]) for place in range(len(TASKS))]
        rows.append([name, *final, spread(figures["average_accuracy"]), spread(figures["backward_transfer"])])
    return rows


def matrix_of(matrices: Sequence[Matrix]) -> Matrix:
    """Return the mean matrix over seeds."""
    return [[float(np.mean(cells)) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def said(bars: Mapping[str, bool]) -> list[str]:
    """Return what holds and what does not, a line each."""
    return [f"{claim}: {yes(holds)}" for claim, holds in bars.items()]


def markdown(report: Mapping[str, Any]) -> str:
    """Return the main table, the bars, and each method's accuracy matrix."""
    parts = [markdown_table(HEADER, table_rows(report["methods"]))]
    parts.append("\n".join(f"- {line}" for line in said(report["claims"])))
    for name, figures in report["methods"].items():
        cells = [
            [f"after {task}", *(f"{value:.4f}" for value in row), *[""] * (len(TASKS) - len(row))]
            for task, row in zip(TASKS, matrix_of(figures["matrices"]), strict=True)
        ]
        parts.append(markdown_table((name, *TASKS), cells))
    return "\n\n".join(parts)


def plot(report: Mapping[str, Any], target: Path) -> None:
    """Draw each task's accuracy as the later ones are learned, a panel a method."""
    import matplotlib as mpl  # noqa: PLC0415 - an optional dependency

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the same

    methods = report["methods"]
    figure, panels = plt.subplots(1, len(methods), figsize=(4 * len(methods), 3.4), sharey=True, squeeze=False)
    for panel, (name, figures) in zip(panels[0], methods.items(), strict=True):
        matrix = matrix_of(figures["matrices"])
        for place, task in enumerate(TASKS):
            steps = range(place, len(matrix))
            panel.plot([step + 1 for step in steps], [matrix[step][place] for step in steps], marker="o", label=task)
        panel.set(title=name, xlabel="tasks learned", xticks=range(1, len(TASKS) + 1))
    panels[0][0].set_ylabel("accuracy")
    panels[0][-1].legend(fontsize="small")
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _report(found: Mapping[str, list[dict[str, Any]]], sequence: Sequence[Lesson], options: Any) -> dict[str, Any]:
    methods = {
        name: {
            "matrices": [row["matrix"] for row in rows],
            "starts": [row.get("starts", []) for row in rows],
            "refused": [row.get("refused", []) for row in rows],
            "average_accuracy": [average_accuracy(row["matrix"]) for row in rows],
            "backward_transfer": [backward_transfer(row["matrix"]) for row in rows],
        }
        for name, rows in found.items()
    }
    tasks = {lesson.task.name: {"learn": len(lesson.learn), "test": len(lesson.test)} for lesson in sequence}
    training = sequence[0].task.as_dict()["training"]
    facts = {"tasks": tasks, "training": training, "seeds": options.seeds, "machine": machine()}
    return {"methods": methods, "claims": claims(methods)} | facts


def _lessons(options: Any, seed: int) -> list[Lesson]:
    if options.toy:
        training = TrainingConfig(epochs=15, rank=4, learning_rate=3e-3, encoder_learning_rate=1e-2, batch=16)
        return toy_lessons(learn=160, test=60, training=training, seed=seed)
    training = TrainingConfig(epochs=options.epochs, max_tokens=32, batch=16)
    return lessons(
        options.data_dir, learn=options.learn, test=options.test, training=training, encoder=options.encoder, seed=seed
    )


def _store(server_url: str, name: str, folder: Path) -> KnowledgeStore:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    url = f"{server_url.rsplit('/', 1)[0]}/{name}"
    store = KnowledgeStore(postgres_url=url, artifacts=ArtifactStore(folder.absolute().as_uri()))
    store.create()
    return store


def _digest(options: Any) -> str:
    told = [options.toy, options.learn, options.test, options.epochs, options.encoder]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alluvium bench forgetting", description=__doc__)
    parser.add_argument("--learn", type=int, default=200, help="most examples of a task that are learned")
    parser.add_argument("--test", type=int, default=150, help="most examples of a task that judge")
    parser.add_argument("--epochs", type=int, default=3, help="passes over a task's examples")
    parser.add_argument("--encoder", default="minilm", help="minilm, hash, a folder, a name on the hub")
    parser.add_argument("--seeds", type=int, default=1, help="runs that differ in examples and seed")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where the data sets lie")
    parser.add_argument("--state", type=Path, default=STATE, help="what is finished is kept here, and not done again")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown")
    parser.add_argument("--plot", type=Path, help="draw the accuracies; needs the extra plots")
    parser.add_argument("--toy", action="store_true", help="made-up tasks and the hash encoder: does it still run?")
    return parser


if __name__ == "__main__":
    main()
