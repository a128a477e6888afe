"""Loggers of rounds by name: each takes one record of a finished round and writes it where its tool finds it."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from learners.errors import InvalidModelConfigError, MissingExtraError
from learners.loggers.experiments import MlflowLogger, WandbLogger
from learners.loggers.record import NoLogger, RoundLogger, RoundRecord
from learners.loggers.tensorboard import TensorBoardLogger

__all__ = ["LOGGERS", "RoundLogger", "RoundRecord", "logger_named"]

LOGGERS: dict[str, Callable[[Path], RoundLogger]] = {
    "none": NoLogger,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}


def logger_named(name: str, folder: Path) -> RoundLogger:
    """Return a logger.

    Args:
        name: One of `LOGGERS`.
        folder: Where it writes.

    Raises:
        InvalidModelConfigError: If there is no such logger.
        MissingExtraError: If what it needs is not installed.

    >>> logger_named("none", Path("nowhere")).log(None)
    """
    if name not in LOGGERS:
        raise InvalidModelConfigError(name="logger", value=name, expected=f"one of {', '.join(LOGGERS)}")
    if name != "none" and find_spec(name) is None:
        raise MissingExtraError(wanted=f"logger {name}", module=name, extra=name)
    return LOGGERS[name](folder)
