"""What a round learns from: arrays and settings, complete in one directory, so that a child process needs no more."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from learners.disk import whole_directory
from learners.errors import InvalidModelConfigError, InvalidRoundInputError
from learners.model import ModelConfig
from learners.rounds.gate import GateConfig

Indexes = npt.NDArray[np.int32]
Schedule = Literal["constant", "cosine", "inverse"]
Loss = Literal["softmax", "gbce"]
Sampling = Literal["uniform", "popularity"]
Batching = Literal["rows", "targets"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule),
    "loss": get_args(Loss),
    "sampling": get_args(Sampling),
    "batching": get_args(Batching),
}
FIRST_EPSILON = 1e-8  # AdamW's, PyTorch's own: from scratch every item has its turn as a target
_ARRAYS, _FACTS = "arrays.npz", "round.json"
_PATHS = ("incumbent", "start", "donors")
_EXTRA = "extra."


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundConfig:
    """How a round trains.

    Args:
        epochs: Most passes over the rows of a fine-tuning round; at least 1.
        first_epochs: The same for a first round; 0 leaves what it starts from as it is.
        batch_rows: Histories per optimizer step of a fine-tuning round; at least 1.
        first_batch_rows: The same for a first round.
        batching: What every step has equally many of: `targets`, so that each target counts alike (a batch of short
            histories then has more rows than `batch_rows`, one of long ones fewer), or `rows`.
        learning_rate: eta_0 of AdamW, above 0.
        adam_epsilon: Of AdamW in a fine-tuning round, above 0. Items that are not in the round get tiny gradients, all
            downwards; an epsilon far below those lifts them to full steps, and what is out of season sinks.
        first_learning_rate: The same for a first round.
        schedule: `constant`, `cosine` (to zero over the epochs) or `inverse` (eta_0 / (1 + lambda * step)).
        schedule_decay: lambda of `inverse`, per step; at least 0.
        weight_decay: AdamW's; at least 0.
        max_grad_norm: Gradients are clipped to this norm; above 0.
        distillation: Weight of staying close to the incumbent on replayed rows; 0 turns it off.
        full_softmax_items: Up to this many items the loss of a fine-tuning round ranks all of them; beyond, a sample.
        sampled_negatives: Items drawn per step beyond that.
        first_full_softmax_items: As `full_softmax_items`, for a first round, which has everything to learn.
        first_sampled_negatives: As `sampled_negatives`, for a first round.
        loss: `softmax` (cross-entropy, corrected for what was sampled) or `gbce` (see `learners.rounds.losses`).
        sampling: How the sample is drawn: by `popularity` among the round's targets (softmax only), or `uniform`.
        validation_share: Share of new rows whose newest target is kept from training, to stop early on; in [0, 0.5].
            0, the default, trains for all epochs: on Online Retail stopping early on 0.1 cost a hundredth of hit rate.
        patience: Epochs without a better validation loss before training stops; at least 1.
        threads: CPU threads of a training process; at least 1.
        device: `auto` (CUDA if there is one), `cpu` or `cuda`.
        compile: Whether the attention blocks go through `torch.compile`; pays on a GPU and in rounds of minutes.
        strategy: How what was learned is kept; a name of `learners.strategies.STRATEGIES`.
        strategy_settings: The strategy's own settings, in place of its paper's.
        logger: Who is told of the round; a name of `learners.loggers.LOGGERS`.
        log_dir: Where it writes; needed unless `logger` is `none`.
    """

    epochs: int = 2
    first_epochs: int = 24
    batch_rows: int = 16
    first_batch_rows: int = 32
    batching: Batching = "targets"
    learning_rate: float = 6e-3
    adam_epsilon: float = 5e-4
    first_learning_rate: float = 2e-3
    schedule: Schedule = "cosine"
    schedule_decay: float = 0.01
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    distillation: float = 1.0
    full_softmax_items: int = 2_000
    sampled_negatives: int = 1_024
    first_full_softmax_items: int = 20_000
    first_sampled_negatives: int = 8_192
    loss: Loss = "softmax"
    sampling: Sampling = "popularity"
    validation_share: float = 0.0
    patience: int = 2
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    strategy: str = "default"
    strategy_settings: Mapping[str, float] = field(default_factory=dict)
    logger: str = "none"
    log_dir: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name in (
            "epochs",
            "batch_rows",
            "first_batch_rows",
            "sampled_negatives",
            "first_sampled_negatives",
            "patience",
            "threads",
        ):
            if getattr(self, name) < 1:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 1")
        if self.first_epochs < 0:
            raise InvalidModelConfigError(name="first_epochs", value=self.first_epochs, expected="at least 0")
        for name in ("learning_rate", "adam_epsilon", "first_learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="above 0")
        for name in ("schedule_decay", "weight_decay", "distillation"):
            if not getattr(self, name) >= 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 0")
        if not 0 <= self.validation_share <= 0.5:
            raise InvalidModelConfigError(name="validation_share", value=self.validation_share, expected="in [0, 0.5]")
        _require_choices(self)

    def of_first_round(self) -> "RoundConfig":
        """Return the settings of a first round in place of a fine-tuning round's; epochs stay as they are.

        >>> RoundConfig(batch_rows=16, first_batch_rows=32).of_first_round().batch_rows
        32
        """
        return replace(
            self,
            batch_rows=self.first_batch_rows,
            learning_rate=self.first_learning_rate,
            adam_epsilon=FIRST_EPSILON,
            full_softmax_items=self.first_full_softmax_items,
            sampled_negatives=self.first_sampled_negatives,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One of those whom a round learns from.

    Args:
        user_id: Who.
        since_ms: When the oldest of what is known of them happened; None where that is not known.
        items: Item indexes, oldest first.
    """

    user_id: str
    since_ms: int | None
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundInput:
    """One round's material.

    Args:
        tokens: Item indexes, left-padded with 0, oldest first, int32 [M, L+1].
        loss_mask: Which of `tokens[:, 1:]` are targets to learn, bool [M, L]. A target with only padding before it
            teaches what people without a history want.
        weight: Weight of each row's loss, above 0, float32 [M].
        replayed: Whether the row comes from the replay buffer, bool [M]; those are distilled.
        newest_histories: The gate's newest window, held out from training: left-padded histories, int32 [W, L].
        newest_targets: The items that followed, int32 [W].
        frozen_histories: The gate's frozen window, int32 [F, L].
        frozen_targets: The items that followed, int32 [F].
        item_ids: `item_index` -> `item_id`, N of them; index 0 is padding.
        text_vectors: What describes each item, float32 [N, `model.described_width`]; zeros for what it lacks.
        active: Whether each item may be ranked, bool [N].
        learned: Interactions with each item that the incumbent's rounds learned from, int32 [N]; see `Lessons`. Empty:
            unknown, which leaves every item the row it has.
        neighbours: What fast memory links the items to that no round has learned (`learned == 0`, in order), item
            indexes, 0 for nothing, int32 [n, M].
        strengths: How strongly, not negative, float32 [n, M].
        model: The network's shape.
        training: How to train.
        gate: How to judge.
        seed: Source of every random choice.
        incumbent: The release to start from and to beat; None is a first round.
        start: What a first round starts from, a directory like a release's; None: from scratch. It is judged as any
            first round is.
        donors: What a first round may start from, a directory that `learners.knowledge.donors` wrote; None: nothing.
            Whoever runs the round chooses; see `learners.knowledge.starting`.
        facts: Anything JSON-able that shall stand in the manifest (offsets learned, trigger, interactions).
        extras: What the strategy's buffer keeps with its rows, by name; M rows each.
        people: Whom it learns from, where exemplars or user embeddings are kept; they stay in this directory.
    """

    tokens: Indexes
    loss_mask: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]
    replayed: npt.NDArray[np.bool_]
    newest_histories: Indexes
    newest_targets: Indexes
    frozen_histories: Indexes
    frozen_targets: Indexes
    item_ids: Sequence[str]
    text_vectors: npt.NDArray[np.float32]
    active: npt.NDArray[np.bool_]
    learned: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    neighbours: Indexes = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    strengths: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    model: ModelConfig = field(default_factory=ModelConfig)
    training: RoundConfig = field(default_factory=RoundConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    seed: int = 0
    incumbent: Path | None = None
    start: Path | None = None
    donors: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    people: Sequence[Person] = ()

    @property
    def texts(self) -> npt.NDArray[np.float32]:
        """The items' text vectors alone, [N, T]."""
        return self.text_vectors[:, : self.model.text_width]

    def __post_init__(self) -> None:
        """Check every shape and every index once, so that training need not.

        Raises:
            InvalidRoundInputError: If an array contradicts another.
        """
        _require_training(self)
        rows, length, items = len(self.tokens), self.model.history_length, len(self.item_ids)
        expected: dict[str, tuple[int, ...]] = {
            "tokens": (rows, length + 1),
            "loss_mask": (rows, length),
            "weight": (rows,),
            "replayed": (rows,),
            "newest_histories": (len(self.newest_targets), length),
            "newest_targets": (len(self.newest_targets),),
            "frozen_histories": (len(self.frozen_targets), length),
            "frozen_targets": (len(self.frozen_targets),),
            "text_vectors": (items, self.model.described_width),
            "active": (items,),
            "learned": (items if len(self.learned) else 0,),
            "neighbours": (int((self.learned == 0).sum()), *self.neighbours.shape[1:]),
            "strengths": self.neighbours.shape,
        } | {f"extras {name}": (rows, *array.shape[1:]) for name, array in self.extras.items()}
        for name, shape in expected.items():
            if (found := self._array(name).shape) != shape:
                raise InvalidRoundInputError(name=name, found=f"of shape {found}", expected=str(shape))
        for name in (
            "tokens",
            "newest_histories",
            "newest_targets",
            "frozen_histories",
            "frozen_targets",
            "neighbours",
        ):
            values = getattr(self, name)
            if values.size and not (values.min() >= 0 and values.max() < items):
                raise InvalidRoundInputError(
                    name=name, found=f"up to {values.max()}", expected=f"indexes below {items}"
                )
        if np.any(self.loss_mask & (self.tokens[:, 1:] == 0)):
            raise InvalidRoundInputError(name="loss_mask", found="set on padding", expected="set on items only")
        for name in ("newest_targets", "frozen_targets"):
            if np.any(getattr(self, name) == 0):
                raise InvalidRoundInputError(name=name, found="0", expected="items, not padding")
        for name in ("weight", "text_vectors"):
            if not np.all(np.isfinite(getattr(self, name))):
                raise InvalidRoundInputError(name=name, found="not finite", expected="finite numbers")

    def _array(self, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self.extras[name[7:]] if name.startswith("extras ") else getattr(self, name)
        return array

    def save(self, folder: Path) -> None:
        """Write everything into a new directory, whole or not at all.

        Raises:
            ReleaseWriteError: If the disk refuses.
        """
        facts = {
            "item_ids": list(self.item_ids),
            "model": asdict(self.model),
            "training": asdict(self.training),
            "gate": asdict(self.gate),
            "seed": self.seed,
            **{name: None if getattr(self, name) is None else str(getattr(self, name)) for name in _PATHS},
            "facts": dict(self.facts),
            "people": [[person.user_id, person.since_ms, list(person.items)] for person in self.people],
        }
        with whole_directory(folder) as target:
            arrays = {name: getattr(self, name) for name in _ARRAY_NAMES}
            arrays |= {_EXTRA + name: values for name, values in self.extras.items()}
            np.savez(target / _ARRAYS, allow_pickle=False, **arrays)
            (target / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "RoundInput":
        """Read what `save` wrote."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAY_NAMES}
            extras = {name.removeprefix(_EXTRA): stored[name] for name in stored.files if name.startswith(_EXTRA)}
        return cls(
            **arrays,
            extras=extras,
            item_ids=facts["item_ids"],
            model=ModelConfig(**facts["model"]),
            training=RoundConfig(**facts["training"]),
            gate=GateConfig(**facts["gate"]),
            seed=facts["seed"],
            incumbent=_path(facts["incumbent"]),
            start=_path(facts.get("start")),
            donors=_path(facts.get("donors")),
            facts=facts["facts"],
            people=[
                Person(user_id=user_id, since_ms=since_ms, items=tuple(items))
                for user_id, since_ms, items in facts.get("people", [])
            ],
        )


def _require_training(round_input: RoundInput) -> None:
    if not round_input.training.first_epochs and round_input.incumbent is None and round_input.start is None:
        raise InvalidRoundInputError(name="first_epochs", found="0", expected="at least 1 from scratch")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _require_choices(config: RoundConfig) -> None:
    for name, known in _CHOICES.items():
        if getattr(config, name) not in known:
            raise InvalidModelConfigError(name=name, value=getattr(config, name), expected=" or ".join(known))
    if config.loss == "gbce" and config.sampling != "uniform":  # its beta is derived for uniform negatives
        raise InvalidModelConfigError(name="sampling", value=config.sampling, expected="uniform with loss gbce")


_ARRAY_NAMES = (
    "tokens",
    "loss_mask",
    "weight",
    "replayed",
    "newest_histories",
    "newest_targets",
    "frozen_histories",
    "frozen_targets",
    "text_vectors",
    "active",
    "learned",
    "neighbours",
    "strengths",
)
