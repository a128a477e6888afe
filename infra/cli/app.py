"""All commands under one name, and errors as one line with an exit code: 0 done, 1 failed, 2 wrong usage."""

import sys
from collections.abc import Sequence

import typer

from infra.cli import administration, knowledge, models, pictures, runs, services, tasks
from infra.errors import InfraError
from infra.processes import exit_on_sigterm

FAILED, WRONG_USAGE = 1, 2

app = typer.Typer(
    name="alluvium",
    help="Streaming continual learning for e-commerce: a clickstream in at Kafka, fresh rankings out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(runs.demo)
app.command("replay")(runs.replay)
app.command("evaluate")(runs.evaluate)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(runs.bench)
app.command("worker")(services.worker)
app.command("learner")(services.learner)
app.command("task-worker")(services.task_worker)
app.add_typer(administration.topics_app, name="topics")
app.add_typer(administration.features_app, name="features")
app.add_typer(models.app, name="models")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(tasks.app, name="tasks")
app.add_typer(pictures.app, name="pictures")
app.command("erase")(administration.erase)
app.command("doctor")(administration.doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Args:
        arguments: The words after `alluvium`; None: those of this process.
    """
    exit_on_sigterm()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on standard error.

    >>> run(["models", "show"])
    2
    """
    from feature_store.errors import FeatureStoreError
    from learners.errors import LearnerError, UnknownStrategyError
    from learners.tasks.errors import InvalidTaskError
    from streams.errors import KafkaSettingsError, StreamsError

    try:
        # click prints its own messages for wrong usage, and exits with 2
        app(args=None if arguments is None else list(arguments), prog_name="alluvium")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except InfraError as error:
        return _report(error, error.exit_code)
    except (KafkaSettingsError, UnknownStrategyError, InvalidTaskError) as error:
        return _report(error, WRONG_USAGE)
    except (StreamsError, LearnerError, FeatureStoreError, OSError) as error:  # a full disk, a folder that is a file
        return _report(error, FAILED)
    return 0


def _report(error: Exception, code: int) -> int:
    sys.stderr.write(f"alluvium: {error}\n")
    return code
