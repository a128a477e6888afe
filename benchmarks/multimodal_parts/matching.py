"""Learn to put a photo beside the product it shows: a photo is an item of which only a picture is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from learners.items.fusion import ItemFusion

Indexes = npt.NDArray[np.int64]

IMAGE, TEXT, ATTRIBUTES = "image", "text", "attributes"


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """How the fusion is trained.

    Args:
        width: D.
        components: Main components kept of a picture's vector.
        steps: Optimizer steps.
        learning_rate: Highest of a one-cycle schedule.
        weight_decay: AdamW's.
        dropout: Share of the numbers of a description left out.
        batch: Photos in a step, and as many scenes.
        alone: Weight of the loss of products of which one description only is shown.
        unseen_negatives: Whether a photo is pushed away from products of which no photo is learned from, too. That is
            right where they are never asked about, and hides them where they are.
    """

    width: int = 128
    components: int = 192
    steps: int = 300
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.3
    batch: int = 96
    alone: float = 0.5
    unseen_negatives: bool = True


@dataclass(frozen=True, kw_only=True)
class Material:
    """Vectors of everything, as the encoders give them.

    Args:
        photos: [P, V].
        shown: Product of each photo, [P].
        studio: Picture of each product, [N, V].
        scenes: Made from the studio pictures, [N, S, V].
        described: Other descriptions of the products by name, each [N, its width].
        blocks: Runs of numbers in V that are scaled each by itself.
    """

    photos: Tensor
    shown: Tensor
    studio: Tensor
    scenes: Tensor
    described: dict[str, Tensor]
    blocks: Sequence[slice]

    def prepared(self, train: Indexes, *, width: int) -> "Material":
        """Return pictures around zero, photos by the mean of the training photos, studio and scenes by their own.

        Phones and studios differ in light more than products do; what is left after each one's mean is the product. Of
        that the main components are kept.

        Args:
            train: Training photos; no other is looked at.
            width: Components.
        """
        spread = torch.cat([
            self.photos[train] - self.photos[train].mean(dim=0),
            self.scenes.flatten(0, 1) - self.scenes.flatten(0, 1).mean(dim=0),
        ]).std(dim=0) + 1e-3  # fmt: skip
        weight = torch.ones(self.photos.shape[1])
        for block in self.blocks:
            weight[block] = len(weight[block]) ** -0.5
        scale = weight / spread
        photos = (self.photos - self.photos[train].mean(dim=0)) * scale
        studio = (self.studio - self.studio.mean(dim=0)) * scale
        scenes = (self.scenes - self.scenes.mean(dim=(0, 1))) * scale
        seen = torch.cat([photos[train], studio, scenes.flatten(0, 1)])
        torch.manual_seed(0)  # the components are found by random projections
        _, _, axes = torch.pca_lowrank(seen, q=min(width, *seen.shape), center=False)
        return replace(self, photos=photos @ axes, studio=studio @ axes, scenes=scenes @ axes)


class Matcher:
    """Product vectors and photo vectors by one fusion, trained so that a photo is nearest to its product.

    Args:
        material: All vectors, prepared for these training photos; only their labels are looked at.
        train: Training photos.
        names: Descriptions of products that may be used: `image`, `text`, `attributes`.
        config: How.
        seed: Of weights and batches.
    """

    def __init__(
        self, material: Material, train: Indexes, *, names: Sequence[str], config: MatchConfig, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.names, self.config = tuple(names), config
        self._train, self._material = torch.from_numpy(train), material
        widths = {name: value.shape[1] for name, value in (material.described | {IMAGE: material.photos}).items()}
        used = {name: width for name, width in widths.items() if name in self.names or name == IMAGE}
        self.fusion = ItemFusion(used, width=config.width, dropout=config.dropout)
        alone = [(name,) for name in self.names if name != ATTRIBUTES] if len(self.names) > 1 else []
        self._combinations = [self.names, *alone]  # so that an item of which only one is known is found too
        self._weights = [1.0, *[config.alone] * len(alone)]
        self.sharpness = torch.nn.Parameter(torch.tensor(2.5))
        self._learn()

    def ranks(self, photos: Indexes, *, names: Sequence[str] | None = None) -> npt.NDArray[np.int64]:
        """Return how many products come before the right one, [n]; `names` as in `scores`."""
        return places(self.scores(photos, names=names), self._material.shown[photos])

    @torch.no_grad()
    def scores(self, photos: Indexes, *, names: Sequence[str] | None = None) -> Tensor:
        """Return how near each photo is to each product, [n, N]; of products the studio's picture and scenes are seen.

        Args:
            photos: Which.
            names: Descriptions of products to use, if not all that it learned with.
        """
        self.fusion.eval()
        material, chosen = self._material, tuple(names or self.names)
        pictures = (material.studio, material.scenes.mean(dim=1))
        products = torch.stack([self._products(picture, [chosen])[0] for picture in pictures]).mean(dim=0)
        scores: Tensor = self.fusion({IMAGE: material.photos[photos]}) @ F.normalize(products, dim=-1).T
        return scores

    def _learn(self) -> None:
        config, material = self.config, self._material
        parameters = [*self.fusion.parameters(), self.sharpness]
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
        number, scenes = material.scenes.shape[:2]
        hidden = torch.zeros(2 * config.batch, number, dtype=torch.bool)
        if not config.unseen_negatives:
            hidden[: config.batch] = torch.bincount(material.shown[self._train], minlength=number) == 0
        self.fusion.train()
        for step in range(config.steps):
            taken = self._train[torch.randint(len(self._train), (config.batch,))]
            made = torch.randint(number, (config.batch,))
            views = torch.cat([material.photos[taken], material.scenes[made, torch.randint(scenes, (config.batch,))]])
            shown = torch.cat([material.shown[taken], made])
            some = material.scenes[torch.arange(number), torch.randint(scenes, (number,))]
            queries = self.fusion({IMAGE: views}) * self.sharpness.exp()
            picture = material.studio if step % 2 else some
            found = zip(self._products(picture, self._combinations), self._weights, strict=True)
            losses = [
                weight * F.cross_entropy((queries @ products.T).masked_fill(hidden, -torch.inf), shown)
                for products, weight in found
            ]
            loss = torch.stack(losses).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def _products(self, picture: Tensor, combinations: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return the product vectors as they are when only a combination of descriptions is known, each [N, D]."""
        known = self._material.described | {IMAGE: picture}
        needed = {name for names in combinations for name in names}
        values, present = self.fusion.project({name: known[name] for name in self.fusion.names if name in needed})
        heard = [torch.tensor([name in names for name in self.fusion.names]) for names in combinations]
        return [self.fusion.mix(values, present & names) for names in heard]


def places(scores: Tensor, shown: Tensor) -> npt.NDArray[np.int64]:
    """Return how many products come before the right one, [n], by scores [n, N] and the right ones [n].

    >>> places(torch.tensor([[0.1, 0.3, 0.2]]), torch.tensor([2])).tolist()
    [1]
    """
    right = scores.gather(1, shown[:, None])
    before: npt.NDArray[np.int64] = (scores > right).sum(dim=1).numpy()
    return before


def likeness(material: Material, train: Indexes, photos: Indexes) -> Tensor:
    """Return the cosine of each photo and the most alike training photo of each product, [n, N]; 0 where there is none.

    What photos say without any catalogue.
    """
    known, asked = (F.normalize(material.photos[chosen], dim=-1) for chosen in (train, photos))
    shown = material.shown[train].expand(len(photos), -1)
    found = torch.full((len(photos), len(material.studio)), -1.0)
    found = found.scatter_reduce(1, shown, asked @ known.T, "amax")
    unknown = torch.bincount(material.shown[train], minlength=len(material.studio)) == 0
    return found.masked_fill(unknown, 0.0)
