"""Loggers of rounds: what was written is read back with the tool's own reader."""

import dataclasses
import importlib.util
import struct
from collections import Counter
from pathlib import Path

import pytest

from learners.errors import InvalidModelConfigError, MissingExtraError
from learners.loggers import LOGGERS, logger_named
from learners.rounds.round import RoundResult, run_round
from tests.learners.rounds_data import TRAINING, ring

CURVES = ("training/gradient_norm", "training/loss")


def logged(logger: str, tmp_path: Path) -> RoundResult:
    """Run a short round that logs."""
    training = dataclasses.replace(TRAINING, first_epochs=2, logger=logger, log_dir=str(tmp_path / "logs"))
    (tmp_path / "out").mkdir()
    return run_round(ring(training=training, facts={"interactions": 250, "round": "abc-1"}), tmp_path / "out")


def test_tensorboard_shows_losses_norms_gate_and_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = logged("tensorboard", tmp_path)
    curves = EventAccumulator(str(tmp_path / "logs" / "abc-1")).Reload()
    assert sorted(curves.Tags()["scalars"]) == list(CURVES)
    losses = curves.Scalars("training/loss")
    assert [event.step for event in losses] == list(range(1, result.training["steps"] + 1))
    assert losses[0].value == pytest.approx(result.training["first_loss"])
    assert losses[-1].value == pytest.approx(result.training["last_loss"])
    assert all(event.value > 0 for event in curves.Scalars("training/gradient_norm"))
    rounds = EventAccumulator(str(tmp_path / "logs" / "rounds")).Reload()
    (gate,) = rounds.Scalars("gate/newest_ndcg_10")
    assert (gate.step, gate.value) == (250, pytest.approx(result.metrics["newest_ndcg_10"]))
    assert rounds.Scalars("weights/id_embedding")[0].value > 0
    (projected,) = (tmp_path / "logs" / "rounds").glob("*/items")
    vectors = (projected / "tensors.tsv").read_text().splitlines()
    labels = (projected / "metadata.tsv").read_text().splitlines()
    assert len(vectors) == len(labels) == 40
    assert labels[0] == "item-1"
    assert len(vectors[0].split("\t")) == 32
    assert "items" in (tmp_path / "logs" / "rounds" / "projector_config.pbtxt").read_text()


def test_mlflow_keeps_curves_and_gate_in_its_store(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the mlflow extra is not installed")
    from mlflow.tracking import MlflowClient

    result = logged("mlflow", tmp_path)
    client = MlflowClient(tracking_uri=(tmp_path / "logs").as_uri())
    experiment = client.get_experiment_by_name("alluvium")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"strategy": "default", "interactions": "250"}
    assert run.data.metrics["gate/newest_ndcg_10"] == pytest.approx(result.metrics["newest_ndcg_10"])
    history = client.get_metric_history(run.info.run_id, "training/loss")
    assert sorted(metric.step for metric in history) == list(range(1, result.training["steps"] + 1))


def recorded(path: Path) -> Counter[str]:
    """How often each key stands in the history of a W&B run on disk: records in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts, found = path.read_bytes(), 7, b"", Counter[str]()
    while place + 7 <= len(content):
        if (left := 32_768 - place % 32_768) < 7:
            place += left  # no header fits into the rest of a block
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of its pieces
            record = Record()
            record.ParseFromString(parts)
            found.update(item.key or "/".join(item.nested_key) for item in record.history.item)
            parts = b""
    return found


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the wandb extra is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    result = logged("wandb", tmp_path)
    (kept,) = (tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb")
    assert recorded(kept)["training/loss"] == result.training["steps"]


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    logged("none", tmp_path)
    assert not (tmp_path / "logs").exists()


def test_a_logger_that_does_not_exist_or_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidModelConfigError, match="logger is 'paper'; expected one of none, tensorboard, wandb"):
        logger_named("paper", tmp_path)
    monkeypatch.setattr("learners.loggers.find_spec", lambda name: None)
    for name in LOGGERS:
        if name != "none":
            with pytest.raises(MissingExtraError, match=rf"alluvium\[{name}\]"):
                logger_named(name, tmp_path)
    assert importlib.util.find_spec("learners.loggers")
