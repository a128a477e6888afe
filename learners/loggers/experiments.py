"""Rounds for experiment trackers, without a server: W&B offline, MLflow in a folder."""

import os
from pathlib import Path

from learners.loggers.record import RoundRecord

PROJECT = "alluvium"


class WandbLogger:
    """Write a W&B run per round, offline unless `WANDB_MODE` says otherwise; `wandb sync` sends it later.

    Args:
        folder: Receives `wandb/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, record: RoundRecord) -> None:
        """Write one round: curves by step, the rest as its summary."""
        import wandb  # noqa: PLC0415 - an optional dependency, slow to load

        self._folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=PROJECT,
            name=record.key,
            dir=str(self._folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            config={"strategy": record.strategy, "interactions": record.interactions},
        )
        for step, (loss, norm) in enumerate(zip(record.losses, record.gradient_norms, strict=False), start=1):
            run.log({"training/loss": loss, "training/gradient_norm": norm}, step=step)
        run.summary.update({**record.scalars(), "outcome": record.outcome})
        run.finish()
        wandb.teardown()  # its own process writes the last of it only when it ends


class MlflowLogger:
    """Write an MLflow run per round into a file store: `mlflow ui --backend-store-uri FOLDER`.

    Args:
        folder: The store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, record: RoundRecord) -> None:
        """Write one round: curves by step, the rest by interactions."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions refuse folders otherwise
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - an optional dependency, slow to load
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - the same

        client = MlflowClient(tracking_uri=self._folder.absolute().as_uri())
        known = client.get_experiment_by_name(PROJECT)
        experiment = client.create_experiment(PROJECT) if known is None else known.experiment_id
        run_id = client.create_run(experiment, run_name=record.key).info.run_id
        metrics = [Metric(name, value, 0, record.interactions) for name, value in record.scalars().items()]
        for tag, values in (("loss", record.losses), ("gradient_norm", record.gradient_norms)):
            metrics += [Metric(f"training/{tag}", value, 0, step) for step, value in enumerate(values, start=1)]
        settings = [Param("strategy", record.strategy), Param("interactions", str(record.interactions))]
        for start in range(0, len(metrics), 1_000):  # as many as one call may carry
            client.log_batch(run_id, metrics=metrics[start : start + 1_000], params=[], tags=[])
        client.log_batch(run_id, metrics=[], params=settings, tags=[RunTag("outcome", record.outcome)])
        client.set_terminated(run_id)
