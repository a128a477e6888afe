"""Continual-learning strategies by name: what a round replays, changes, adds to the loss, trains and remembers."""

from collections.abc import Mapping
from dataclasses import fields, replace

from learners.errors import InvalidModelConfigError, UnknownStrategyError
from learners.strategies.adapters import LowRank
from learners.strategies.anchors import ElasticWeights, L2ToIncumbent
from learners.strategies.augmentation import SequenceAugmentation, TextAugmentation
from learners.strategies.exemplars import AdaptiveDistillation, DarkExperience
from learners.strategies.incumbent import Distillation
from learners.strategies.plain import FullRetraining, Naive, NoRounds, SlidingWindow
from learners.strategies.replays import HerdingReplay, RecencyReplay, ReservoirReplay, StratifiedReplay
from learners.strategies.steps import FastGradient, Reptile
from learners.strategies.strategy import Material, Strategy

__all__ = ["STRATEGIES", "Material", "Strategy", "strategy_named"]

STRATEGIES: dict[str, Strategy] = {
    "default": Distillation(),
    "naive": Naive(),
    "none": NoRounds(),
    "reservoir": ReservoirReplay(),
    "recency": RecencyReplay(),
    "stratified": StratifiedReplay(),
    "herding": HerdingReplay(),
    "der++": DarkExperience(),
    "ader": AdaptiveDistillation(),
    "ewc": ElasticWeights(),
    "l2": L2ToIncumbent(),
    "window": SlidingWindow(),
    "retrain": FullRetraining(),
    "lora": LowRank(),
    "reptile": Reptile(),
    "fgm": FastGradient(),
    "augmentation": SequenceAugmentation(),
    "text_augmentation": TextAugmentation(),
}


def strategy_named(name: str, settings: Mapping[str, float] | None = None) -> Strategy:
    """Return a strategy, with settings of its own in place of its paper's.

    Raises:
        UnknownStrategyError: If there is no such strategy.
        InvalidModelConfigError: If it has no such setting.

    >>> strategy_named("window", {"interactions": 500})
    SlidingWindow(interactions=500)
    """
    if name not in STRATEGIES:
        raise UnknownStrategyError(strategy=name, known=list(STRATEGIES))
    known = [each.name for each in fields(STRATEGIES[name])]
    for setting, value in (settings or {}).items():
        if setting not in known:
            expected = f"one of {', '.join(known)}" if known else "no settings"
            raise InvalidModelConfigError(name=f"a setting of strategy {name!r}", value=setting, expected=expected)
        if not value > 0:
            raise InvalidModelConfigError(name=f"{name}.{setting}", value=value, expected="above 0")
    return replace(STRATEGIES[name], **(settings or {}))
