"""`alluvium worker`, `learner` and `task-worker`: the processes, as a supervisor, compose or Kubernetes starts them."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import options

LEARNER_NICENESS = 5  # where cores are scarce, features and rankings come before learning; its rounds inherit it


def worker(
    *,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Ingest events, keep features, rank."""
    settings = options.read(bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir)
    options.required_kafka(settings)
    options.required_postgres(settings)
    import torch

    from infra.composition import worker_arguments
    from streams.worker_process import run_worker

    torch.set_num_threads(1)  # rankings are small, and ingest needs the other cores
    raise typer.Exit(asyncio.run(run_worker(**worker_arguments(settings))))


def learner(
    *,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
) -> None:
    """Score, learn, release."""
    settings = options.read(
        bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir, seed=seed
    )
    options.required_kafka(settings)
    options.required_postgres(settings)
    import torch

    from infra.composition import learner_arguments
    from streams.learner_process import run_learner

    os.nice(LEARNER_NICENESS)
    torch.set_num_threads(settings.learning.threads)
    raise typer.Exit(asyncio.run(run_learner(**learner_arguments(settings))))


def task_worker(
    task_files: Annotated[
        list[Path], typer.Argument(metavar="TASK.toml...", help="The declaration, several to learn them jointly.")
    ],
    *,
    share: Annotated[str, typer.Option("--share", help="What several tasks share: encoder or trunk.")] = "encoder",
    round_examples: Annotated[
        int, typer.Option("--round-examples", min=4, help="Labelled examples that make a round, of all tasks together.")
    ] = 200,
    http_port: Annotated[int, typer.Option("--http-port", min=0, max=65535, help="0: any free one.")] = 0,
    bootstrap_servers: options.BootstrapServers = None,
    postgres_url: options.PostgresUrl = None,
    data_dir: options.DataDir = None,
    seed: options.Seed = None,
) -> None:
    """Answer and learn from tasks' examples, several jointly; with a Postgres set, keep and reuse what they learn."""
    settings = options.read(
        bootstrap_servers=bootstrap_servers, postgres_url=postgres_url, data_dir=data_dir, seed=seed
    )
    options.required_kafka(settings)
    import torch

    from infra.composition import task_worker_arguments
    from streams.task_process import run_task_worker

    os.nice(LEARNER_NICENESS)
    torch.set_num_threads(settings.learning.threads)
    arguments = task_worker_arguments(settings, task_files=task_files, share=share, round_examples=round_examples)
    raise typer.Exit(asyncio.run(run_task_worker(**arguments, http_port=http_port)))
