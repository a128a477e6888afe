"""Several tasks on the shared model's trunk: click, cart, purchase, buy or not; calibrated; saved beside the model."""

from learners.multitask.calibration import Calibration, expected_calibration_error
from learners.multitask.config import MultiTaskConfig, TaskWeights
from learners.multitask.model import MultiTaskModel
from learners.multitask.predictor import Chances, Predictor
from learners.multitask.storage import load_multitask, save_multitask
from learners.multitask.training import MultiTaskTrainer
from learners.multitask.visits import Visits

__all__ = [
    "Calibration",
    "Chances",
    "MultiTaskConfig",
    "MultiTaskModel",
    "MultiTaskTrainer",
    "Predictor",
    "TaskWeights",
    "Visits",
    "expected_calibration_error",
    "load_multitask",
    "save_multitask",
]
