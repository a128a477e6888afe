"""Heads on disk: one safetensors file beside the model, complete with trunk, settings and calibration."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from learners.disk import write_whole
from learners.errors import CorruptReleaseError, ReleaseNotFoundError
from learners.model import ModelConfig, SharedModel
from learners.multitask.calibration import Calibration
from learners.multitask.config import MultiTaskConfig, TaskWeights
from learners.multitask.model import MultiTaskModel
from learners.multitask.predictor import Predictor

FILE = "multitask.safetensors"
_FORMAT, _TEXT, _ACTIVE = 1, "text_vectors", "active"


def save_multitask(predictor: Predictor, folder: Path) -> Path:
    """Write a predictor into a folder, whole or not at all; returns the file.

    The trunk goes with it, because training the heads has moved it away from the release that it came from.

    Raises:
        ReleaseWriteError: If the disk refuses; what was there before is untouched.
    """
    model = predictor.model
    facts = {
        "format": _FORMAT,
        "trunk": asdict(model.trunk.config) | {"capacity": model.trunk.capacity},
        "heads": asdict(model.config),
        "calibrations": {head: asdict(calibration) for head, calibration in predictor.calibrations.items()},
        "threshold": predictor.threshold,
    }
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {_TEXT: predictor.text_vectors, _ACTIVE: predictor.active}
    content = save_tensors(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        metadata={"multitask": json.dumps(facts, sort_keys=True)},
    )
    write_whole(folder / FILE, content)
    return folder / FILE


def load_multitask(folder: Path, *, device: str = "cpu") -> Predictor:
    """Read what `save_multitask` wrote.

    Raises:
        ReleaseNotFoundError: If there is no such file.
        CorruptReleaseError: If it is not what `save_multitask` writes.
    """
    path = folder / FILE
    if not path.exists():
        raise ReleaseNotFoundError(model=folder.name, version=FILE)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["multitask"])
        tensors = load_tensors(path.read_bytes())
        text, active = tensors.pop(_TEXT).to(device), tensors.pop(_ACTIVE).to(device)
        capacity = facts["trunk"].pop("capacity")
        trunk = SharedModel(ModelConfig(**facts["trunk"]), capacity=capacity)
        heads = MultiTaskConfig(**facts["heads"] | {"weights": TaskWeights(**facts["heads"]["weights"])})
        model = MultiTaskModel(trunk, heads)
        model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()})
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CorruptReleaseError(path=path, found=repr(error), expected="trunk and heads") from error
    return Predictor(
        model=model.to(torch.device(device)),
        text_vectors=text,
        active=active,
        calibrations={head: Calibration(**values) for head, values in facts["calibrations"].items()},
        threshold=facts["threshold"],
    )
