"""The settings of the heads and of their training."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from learners.errors import InvalidModelConfigError

Structure = Literal["shared", "mmoe", "ple"]
Conversion = Literal["esmm", "clicked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWeights:
    """How much each task's loss counts; 0 leaves a task out.

    Args:
        click: Whether a shown item is clicked.
        cart: Whether a clicked item goes into the cart.
        purchase: Whether a clicked item is bought.
        buyer: Whether the person buys anything in the visit.
        next_item: Which item the person looks at next, among all: keeps user and item vectors good for ranking.
    """

    click: float = 1.0
    cart: float = 1.0
    purchase: float = 1.0
    buyer: float = 1.0
    next_item: float = 0.1

    def __post_init__(self) -> None:
        """Refuse weights below zero."""
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTaskConfig:
    """The shape of the heads and how they are trained.

    Args:
        structure: What is between trunk and heads: one `shared` layer, `mmoe` or `ple`; see `experts.py`.
        conversion: `esmm` learns what follows a click from all impressions, as the product of chances; `clicked` from
            clicked impressions alone.
        experts: Experts of `mmoe`; for `ple` so many shared ones, and one for each task beside them; at least 1.
        levels: Extraction levels of `ple`; at least 1.
        expert_width: Width of an expert's output; at least 1.
        tower_width: Hidden width of a head; at least 1.
        places: Places of a list that are told apart; later ones count as the last; at least 1.
        dropout: Share of numbers dropped inside the heads while training, in [0, 1).
        weights: How much each task counts.
        epochs: Passes over the visits; at least 1.
        batch_visits: Visits per optimizer step; at least 1.
        learning_rate: AdamW's, falling to zero as a cosine; above 0.
        weight_decay: AdamW's; at least 0.
        max_grad_norm: Gradients are clipped to this norm; above 0.
    """

    structure: Structure = "shared"
    conversion: Conversion = "esmm"
    experts: int = 4
    levels: int = 2
    expert_width: int = 32
    tower_width: int = 32
    places: int = 10
    dropout: float = 0.1
    weights: TaskWeights = field(default_factory=TaskWeights)
    epochs: int = 4
    batch_visits: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        for name in ("experts", "levels", "expert_width", "tower_width", "places", "epochs", "batch_visits"):
            if getattr(self, name) < 1:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 1")
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="above 0")
        if not self.weight_decay >= 0:
            raise InvalidModelConfigError(name="weight_decay", value=self.weight_decay, expected="at least 0")
        if not 0 <= self.dropout < 1:
            raise InvalidModelConfigError(name="dropout", value=self.dropout, expected="in [0, 1)")
        for name, known in (("structure", get_args(Structure)), ("conversion", get_args(Conversion))):
            if getattr(self, name) not in known:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected=" or ".join(known))
