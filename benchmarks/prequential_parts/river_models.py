"""river's factorisation models, learning from every interaction and from drawn items that were not taken.

river predicts one pair at a time, which for a whole catalogue costs tens of milliseconds. Here the same numbers are
computed at once from a copy of the model's own parameters, of which only those that were just learned are renewed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from river import facto, optim, reco

from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import Moment

Floats = npt.NDArray[np.float32]


class RiverModel:
    """Rank by a model of river that was taught 1 for what happened and 0 for items drawn at random.

    Args:
        items: N, padding included.
        factors: Numbers in a latent vector.
        negatives: Items drawn per interaction.
        seed: Source of the draws and of the first latent vectors.
    """

    block = 1

    def __init__(self, items: int, *, factors: int, negatives: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._negatives = negatives
        self.biases = np.zeros(items)
        self.latents = np.zeros((items, factors))

    def refit(self, past: Log) -> None:
        """Nothing: it has learned everything already."""

    def learn(self, moment: Moment, item: int) -> None:
        """Teach the model what came, and that some other items did not."""
        drawn = self._rng.integers(1, moment.items, self._negatives)
        self._teach(moment, item, 1)
        for other in drawn[drawn != item].tolist():
            self._teach(moment, other, 0)
        for changed in {item, *drawn.tolist()}:
            self.biases[changed], self.latents[changed] = self._parameters(changed)

    def scores(self, moments: Sequence[Moment]) -> Floats:
        """Return what the model predicts, up to what is the same for all items, [len(moments), N]."""
        return np.stack([self.biases + self.latents @ self._reader(moment) for moment in moments]).astype(np.float32)

    def _teach(self, moment: Moment, item: int, answer: int) -> None:
        raise NotImplementedError

    def _parameters(self, item: int) -> tuple[float, npt.NDArray[np.float64]]:
        """Return an item's bias and latent vector."""
        raise NotImplementedError

    def _reader(self, moment: Moment) -> npt.NDArray[np.float64]:
        """Return what the items' latent vectors are multiplied by."""
        raise NotImplementedError


class BiasedMF(RiverModel):
    """`reco.BiasedMF`: biases and the product of a person's and an item's latent vector.

    Args:
        items: N, padding included.
        factors: Numbers in a latent vector.
        learning_rate: Of plain SGD, for biases and latent vectors.
        l2: Weight decay of both.
        negatives: Items drawn per interaction.
        seed: Source of every random choice.

    Source: Koren, Bell & Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 42, 2009.
    """

    def __init__(
        self,
        items: int,
        *,
        factors: int = 32,
        learning_rate: float = 0.05,
        l2: float = 0.01,
        negatives: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(items, factors=factors, negatives=negatives, seed=seed)
        self.model = reco.BiasedMF(
            n_factors=factors,
            bias_optimizer=optim.SGD(learning_rate),
            latent_optimizer=optim.SGD(learning_rate),
            l2_bias=l2,
            l2_latent=l2,
            seed=seed,
        )

    def _teach(self, moment: Moment, item: int, answer: int) -> None:
        self.model.learn_one(moment.user, item, answer)

    def _parameters(self, item: int) -> tuple[float, npt.NDArray[np.float64]]:
        return float(self.model.i_biases[item]), self.model.i_latents[item]

    def _reader(self, moment: Moment) -> npt.NDArray[np.float64]:
        vector: npt.NDArray[np.float64] = self.model.u_latents[moment.user]
        return vector


class FactorizationMachine(RiverModel):
    """`facto.FMClassifier` over the person, the person's last item and the candidate item.

    Args:
        items: N, padding included.
        factors: Numbers in a latent vector.
        learning_rate: Of plain SGD.
        l2: Weight decay of latent vectors.
        negatives: Items drawn per interaction.
        seed: Source of every random choice.

    Source: Rendle, "Factorization Machines", ICDM 2010.
    """

    def __init__(
        self,
        items: int,
        *,
        factors: int = 32,
        learning_rate: float = 0.05,
        l2: float = 0.0,
        negatives: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(items, factors=factors, negatives=negatives, seed=seed)
        self.model: Any = facto.FMClassifier(
            n_factors=factors,
            weight_optimizer=optim.SGD(learning_rate),
            latent_optimizer=optim.SGD(learning_rate),
            l2_latent=l2,
            seed=seed,
        )

    @staticmethod
    def features(moment: Moment, item: int) -> dict[str, int]:
        """Return what the model sees of one candidate."""
        last = int(moment.history[-1]) if len(moment.history) else 0
        return {f"user_{moment.user}": 1, f"last_{last}": 1, f"item_{item}": 1}

    def _teach(self, moment: Moment, item: int, answer: int) -> None:
        self.model.learn_one(self.features(moment, item), answer)

    def _parameters(self, item: int) -> tuple[float, npt.NDArray[np.float64]]:
        return float(self.model.weights[f"item_{item}"]), _vector(self.model.latents[f"item_{item}"])

    def _reader(self, moment: Moment) -> npt.NDArray[np.float64]:
        user, last, _ = self.features(moment, 0)
        return _vector(self.model.latents[user]) + _vector(self.model.latents[last])


def _vector(latent: Any) -> npt.NDArray[np.float64]:
    return np.asarray(latent, np.float64)
