"""From settings to the components' own configurations."""

from infra.settings import Settings
from learners.drift import DriftConfig
from learners.gate import GateConfig
from learners.learner import LearnerConfig
from learners.model import ModelConfig
from learners.round_input import RoundConfig
from learners.shadow import ShadowConfig
from learners.triggers import TriggerConfig


def learner_config(settings: Settings, *, text_width: int) -> LearnerConfig:
    """What the learner and its rounds are configured with.

    Args:
        settings: All settings.
        text_width: T, numbers in a text vector of the encoder in use.

    >>> learner_config(Settings(), text_width=384) == LearnerConfig()
    True
    """
    model, learning, gate, drift = settings.model, settings.learning, settings.gate, settings.drift
    interval_s = learning.round_interval_s
    return LearnerConfig(
        trigger=TriggerConfig(
            interactions=learning.round_interactions,
            interval_ms=None if interval_s is None else round(interval_s * 1000),
            on_drift=learning.round_on_drift,
            drift_interactions=max(
                1, learning.round_interactions // 4
            ),  # enough to learn from, and well before the next
        ),
        drift=DriftConfig(delta=drift.delta, warning_delta=drift.warning_delta, cooldown=drift.cooldown_interactions),
        shadow=ShadowConfig(interactions=gate.shadow_interactions),
        model=ModelConfig(
            width=model.width,
            layers=model.layers,
            heads=model.heads,
            dropout=model.dropout,
            history_length=model.history_length,
            text_width=text_width,
            spare_rows=model.spare_rows,
        ),
        training=RoundConfig(
            epochs=learning.epochs,
            first_epochs=learning.first_epochs,
            batch_rows=learning.batch_rows,
            learning_rate=learning.learning_rate,
            distillation=learning.distillation,
            threads=learning.threads,
            device=learning.device,
        ),
        gate=GateConfig(
            max_regression=gate.max_regression,
            max_forgetting=gate.max_forgetting,
            noise=gate.noise,
            popularity_floor=gate.popularity_floor,
            min_targets=gate.min_targets,
        ),
        history_length=settings.features.history_length,
        replay_capacity=learning.replay_capacity,
        replay_rows=learning.replay_rows,
        newest_window=gate.window,
        metrics_window=learning.metrics_window,
    )
