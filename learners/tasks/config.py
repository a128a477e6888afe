"""The settings of a task's head and of its training; every layer and loss is chosen by its name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from learners.tasks.errors import InvalidTaskError

Kind = Literal["sequence", "pair", "classify", "score"]
EncoderMode = Literal["frozen", "lora", "full"]

KINDS: tuple[str, ...] = get_args(Kind)
ENCODER_MODES: tuple[str, ...] = get_args(EncoderMode)
POOLINGS = ("attention", "mean", "max", "first")
HEADS = ("mlp", "linear")
INTERACTIONS = ("bi", "cross", "cosine")
LOSSES: Mapping[str, tuple[str, ...]] = {  # by kind, the default first
    "sequence": ("softmax",),
    "pair": ("mse", "binary", "ranking", "contrastive"),
    "classify": ("cross_entropy", "weighted_cross_entropy", "focal"),
    "score": ("mse", "huber"),
}
ENCODER_RATES: Mapping[str, float] = {"frozen": 0.0, "lora": 1e-3, "full": 5e-5}  # where no rate is given


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """What follows the encoder: pooling, then a head.

    Args:
        pooling: How token states become one vector: `attention`, `mean`, `max` or `first`.
        kind: `mlp` or `linear`.
        hidden: Width of the hidden layers; at least 1.
        layers: Hidden layers of the `mlp`; at least 1.
        dropout: Share of numbers dropped while training, in [0, 1).
        interaction: Of a pair. `bi` reads each side by itself, so that vectors of items can be kept; `cross` reads both
            as one text; `cosine` is `bi` with nothing but the similarity.
    """

    pooling: str = "attention"
    kind: str = "mlp"
    hidden: int = 128
    layers: int = 1
    dropout: float = 0.1
    interaction: str = "bi"

    def __post_init__(self) -> None:
        """Refuse what is no choice."""
        one_of("head.pooling", self.pooling, POOLINGS)
        one_of("head.kind", self.kind, HEADS)
        one_of("head.interaction", self.interaction, INTERACTIONS)
        at_least("head.hidden", self.hidden, 1)
        at_least("head.layers", self.layers, 1)
        if not 0 <= self.dropout < 1:
            raise InvalidTaskError(name="head.dropout", value=self.dropout, expected="in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How a round trains.

    Args:
        encoder: `frozen`: only the head learns; `lora`: low-rank additions to it learn, too; `full`: all of it learns.
        rank: r of the additions; at least 1.
        alpha: Additions count alpha / r; above 0.
        loss: One of the kind's losses; empty: the kind's default.
        learning_rate: AdamW's for the head, after a warm-up falling to zero; above 0.
        encoder_learning_rate: The same for the encoder; None: by `encoder`.
        weight_decay: AdamW's; at least 0.
        epochs: Passes over new and replayed examples; at least 1.
        batch: Examples per optimizer step; at least 1.
        max_tokens: Texts are cut off after so many tokens; at least 4.
        max_grad_norm: Gradients are clipped to this norm; above 0.
        replay: Replayed examples per new one; at least 0.
        hold_out: Share of the examples, the newest, that judge and are never learned; in (0, 1).
        adversarial: Length of the step against the gradient by which what the head reads is disturbed while it learns,
            relative to its own length; 0 turns it off.
    """

    encoder: EncoderMode = "frozen"
    rank: int = 8
    alpha: float = 16.0
    loss: str = ""
    learning_rate: float = 1e-3
    encoder_learning_rate: float | None = None
    weight_decay: float = 0.01
    epochs: int = 5
    batch: int = 32
    max_tokens: int = 48
    max_grad_norm: float = 1.0
    replay: float = 1.0
    hold_out: float = 0.2
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        one_of("training.encoder", self.encoder, ENCODER_MODES)
        for name, least in (("rank", 1), ("epochs", 1), ("batch", 1), ("max_tokens", 4)):
            at_least(f"training.{name}", getattr(self, name), least)
        for name in ("alpha", "learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise InvalidTaskError(name=f"training.{name}", value=getattr(self, name), expected="above 0")
        for name in ("weight_decay", "replay", "adversarial"):
            if not getattr(self, name) >= 0:
                raise InvalidTaskError(name=f"training.{name}", value=getattr(self, name), expected="at least 0")
        if self.encoder_learning_rate is not None and not self.encoder_learning_rate > 0:
            value = self.encoder_learning_rate
            raise InvalidTaskError(name="training.encoder_learning_rate", value=value, expected="above 0")
        if not 0 < self.hold_out < 1:
            raise InvalidTaskError(name="training.hold_out", value=self.hold_out, expected="in (0, 1)")

    @property
    def encoder_rate(self) -> float:
        """The learning rate of the encoder's trained part.

        >>> TrainingConfig(encoder="lora").encoder_rate, TrainingConfig(encoder_learning_rate=0.5).encoder_rate
        (0.001, 0.5)
        """
        return self.encoder_learning_rate or ENCODER_RATES[self.encoder]


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Refuse a choice that there is not.

    Raises:
        InvalidTaskError: If `value` is not among `known`.
    """
    choices = tuple(known)
    if value not in choices:
        raise InvalidTaskError(name=name, value=value, expected=f"one of {', '.join(choices)}")


def refuse_sequence(kind: str) -> None:
    """Refuse the kind that is learned by the shared model and its rounds, not by a head of its own.

    Raises:
        InvalidTaskError: If `kind` is `sequence`.
    """
    if kind == "sequence":
        expected = (
            "pair, classify or score; a sequence task is learned by SequenceLearner, behind Kafka by `alluvium learner`"
        )
        raise InvalidTaskError(name="kind", value=kind, expected=expected)


def at_least(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        InvalidTaskError: If it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidTaskError(name=name, value=value, expected=f"a whole number of at least {least}")


def read_section(cls: Any, name: str, values: Any) -> Any:
    """Build a section's settings from a table of a TOML file.

    >>> read_section(HeadConfig, "head", {"hidden": 8}).hidden
    8
    >>> read_section(HeadConfig, "head", {"hiden": 8})
    Traceback (most recent call last):
        ...
    learners.tasks.errors.InvalidTaskError: task's head.hiden is 8; expected one of dropout, hidden, ...

    Raises:
        InvalidTaskError: If a name is unknown or a value wrong.
    """
    if not isinstance(values, Mapping):
        raise InvalidTaskError(name=name, value=values, expected="a table")
    known = {field.name for field in fields(cls)}
    for key, value in values.items():
        if key not in known:
            raise InvalidTaskError(name=f"{name}.{key}", value=value, expected=f"one of {', '.join(sorted(known))}")
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidTaskError(name=name, value=dict(values), expected=f"values of the right type: {error}") from error
