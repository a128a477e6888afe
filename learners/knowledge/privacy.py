"""Differential privacy for what leaves a shop: a trunk that hardly depends on any one person.

The unit is the person: all that one person did counts as one example, at most a history's length of it. Each step draws
people at random, clips what each of them would change to one length, adds them up, and adds noise of that length times
a multiplier. What leaves is the trunk alone: item rows, figures and task statistics were not made that way.

It starts from random weights, and sees items by what describes them, which is the catalogue's and not people's. The
noise comes from torch's generator, seeded by the system's entropy: that is no cryptographic source.
"""

import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from learners.errors import InvalidModelConfigError, MissingExtraError
from learners.knowledge.contents import OF_THE_CATALOGUE
from learners.knowledge.errors import FusionError
from learners.knowledge.privacy_notes import DELTA, EPSILON
from learners.model import SharedModel, capacity_for
from learners.rounds.material import RoundInput
from learners.rounds.rows import Rows, prepare
from learners.rounds.training import Trainer
from learners.strategies import strategy_named

UNIT = "person"
_ORDERS = [1 + tenth / 10 for tenth in range(1, 100)] + [*range(11, 64), *range(64, 513, 16)]  # of Renyi's divergence


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyConfig:
    """How private, and how long to train for it.

    Args:
        epsilon: How much one person may change the odds of any outcome, as a power of e; above 0.
        delta: Chance that this does not hold; in (0, 1), far below one over the number of people.
        clip: Longest change that one person may ask for in a step; above 0.
        sample_rate: Chance of each person to be drawn in a step, in (0, 1].
        steps: At least 1.
        learning_rate: Of Adam, on the noisy sum; above 0.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    clip: float = 0.5
    sample_rate: float = 0.1
    steps: int = 100
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        for name in ("epsilon", "clip", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="above 0")
        if not 0 < self.delta < 1 or not 0 < self.sample_rate <= 1 or self.steps < 1:
            found = (self.delta, self.sample_rate, self.steps)
            expected = "in (0, 1), (0, 1] and at least 1"
            raise InvalidModelConfigError(name="delta, sample_rate, steps", value=found, expected=expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateTrunk:
    """What may leave, and what it cost.

    Args:
        trunk: All parameters but the item rows.
        epsilon: Spent.
        delta: The same.
        noise: Standard deviation of the noise, in lengths of `clip`.
    """

    trunk: dict[str, Tensor]
    epsilon: float
    delta: float
    noise: float

    def notes(self, config: PrivacyConfig) -> dict[str, str]:
        """Return what an entry's lineage says of it."""
        return {
            EPSILON: f"{self.epsilon:.6g}",
            DELTA: f"{self.delta:g}",
            "unit": UNIT,
            "noise": f"{self.noise:.6g}",
            "clip": f"{config.clip:g}",
            "sample_rate": f"{config.sample_rate:g}",
            "steps": str(config.steps),
        }


def person_rows(
    people: Mapping[str, Sequence[int]], *, length: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return one row of each person, the newest `length` + 1 items: tokens [P, L+1] and their targets [P, L].

    >>> tokens, mask = person_rows({"ada": [1, 2, 3, 4], "bob": [5]}, length=2)
    >>> tokens.tolist(), mask.tolist()
    ([[2, 3, 4], [0, 0, 5]], [[True, True], [False, True]])
    """
    tokens = np.zeros((len(people), length + 1), np.int32)
    for place, items in enumerate(people.values()):
        newest = list(items)[-(length + 1) :]
        tokens[place, length + 1 - len(newest) :] = newest
    return tokens, tokens[:, 1:] > 0


def train_privately(round_input: RoundInput, config: PrivacyConfig, *, seed: int | None = None) -> PrivateTrunk:
    """Train a trunk on one row of each person.

    Args:
        round_input: `tokens` hold ONE row of each person (`person_rows`); items are the catalogue's.
        config: How private.
        seed: Of draws and noise, for tests. Whoever knows it can take the noise away; None: the system's entropy.

    Raises:
        MissingExtraError: If `opacus`, which does the accounting, is not installed.
        FusionError: If nobody did anything.

    Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, algorithm 1, its examples people:
        McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018.
    """
    noise = noise_for(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(secrets.randbits(63) if seed is None else seed)
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        model = SharedModel(round_input.model, capacity=capacity_for(round_input.model, len(round_input.item_ids)))
        model.id_embedding.requires_grad_(requires_grad=False)  # zero: an item is what describes it
        model.look_at(torch.from_numpy(round_input.text_vectors))
        rows, _ = prepare(_plain(round_input), np.random.default_rng(0))
        if not len(rows):
            raise FusionError(reason="nobody did anything that a private trunk could learn")
        trainer = _trainer(model, round_input)
        learned = [value for value in model.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=config.learning_rate)
        for _ in range(config.steps):
            drawn = (torch.rand(len(rows), generator=generator) < config.sample_rate).nonzero()[:, 0].tolist()
            noisy = noisy_sum(
                (person_gradient(trainer, rows, person, learned) for person in drawn),
                like=learned,
                clip=config.clip,
                noise=noise,
                generator=generator,
            )
            for value, total in zip(learned, noisy, strict=True):
                value.grad = total / (config.sample_rate * len(rows))
            optimizer.step()
    trunk = {name: value.detach() for name, value in model.state_dict().items() if name != OF_THE_CATALOGUE}
    return PrivateTrunk(trunk=trunk, epsilon=spent(config, noise), delta=config.delta, noise=noise)


def person_gradient(trainer: Trainer, rows: Rows, person: int, learned: Sequence[Tensor]) -> list[Tensor]:
    """Return what one person would change: the gradient of the loss of all their targets."""
    _, loss = trainer.likelihood(rows.take(torch.tensor([person])))
    found = torch.autograd.grad(loss, list(learned), allow_unused=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient.nan_to_num(posinf=0.0, neginf=0.0)
        for value, gradient in zip(learned, found, strict=True)
    ]


def noisy_sum(
    gradients: Iterable[Sequence[Tensor]],
    *,
    like: Sequence[Tensor],
    clip: float,
    noise: float,
    generator: torch.Generator,
) -> list[Tensor]:
    """Return the sum of people's gradients, each clipped to one length over all parameters, and noise.

    Args:
        gradients: One list of tensors for each person.
        like: Tensors of the parameters' shapes.
        clip: Longest that one person counts.
        noise: Standard deviation of what is added to every number, in lengths of `clip`.
        generator: Source of the noise.
    """
    total = [torch.zeros_like(value) for value in like]
    for gradient in gradients:
        length = torch.sqrt(sum((part.square().sum() for part in gradient), torch.zeros(())))
        share = float((clip / length.clamp(min=1e-12)).clamp(max=1.0))
        for into, part in zip(total, gradient, strict=True):
            into.add_(part, alpha=share)
    return [into + noise * clip * torch.randn(into.shape, generator=generator) for into in total]


def noise_for(config: PrivacyConfig) -> float:
    """Return the least noise that stays within epsilon and delta.

    Raises:
        MissingExtraError: If `opacus` is not installed.
    """
    try:
        from opacus.accountants.utils import get_noise_multiplier  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        raise MissingExtraError(wanted="differential privacy", module="opacus", extra="privacy") from error
    with _any_order():
        found: float = get_noise_multiplier(
            target_epsilon=config.epsilon,
            target_delta=config.delta,
            sample_rate=config.sample_rate,
            steps=config.steps,
            accountant="rdp",
            alphas=_ORDERS,
        )
    return found


def spent(config: PrivacyConfig, noise: float) -> float:
    """Return the epsilon that training with this noise costs, by Renyi differential privacy.

    Source: Mironov, Talwar & Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019, in `opacus`.
    """
    from opacus.accountants import RDPAccountant  # noqa: PLC0415 - see above

    accountant = RDPAccountant()
    accountant.history = [(noise, config.sample_rate, config.steps)]
    with _any_order():
        return float(accountant.get_epsilon(config.delta, alphas=_ORDERS))


@contextmanager
def _any_order() -> Iterator[None]:
    """The best of all orders may be the last one tried: the figure is then an upper bound like any other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        yield


def _plain(round_input: RoundInput) -> RoundInput:
    return replace(round_input, training=replace(round_input.training, validation_share=0.0))


def _trainer(model: SharedModel, round_input: RoundInput) -> Trainer:
    model.train()
    return Trainer(
        model,
        text_vectors=torch.from_numpy(round_input.text_vectors),
        active=torch.from_numpy(round_input.active),
        config=round_input.training.of_first_round(),
        strategy=strategy_named("naive"),
        epochs=1,
        learning_rate=round_input.training.learning_rate,
        seed=int(torch.randint(2**31, ())),
        teacher=None,
    )
