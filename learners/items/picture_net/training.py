"""Training without labels: each picture is a class of its own, to be known in whatever scene it is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from learners.errors import DivergedError, InvalidModelConfigError
from learners.items.picture_net.network import PictureNet, pixels_of
from learners.items.picture_net.scenes import cutout, scene
from learners.items.picture_net.views import views

_ENOUGH_SIDE = 200
_KEPT_SIDE = 96  # pixels of a scene that views are taken from


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """How the network is trained.

    Args:
        channels: Of its first convolution.
        steps: Optimizer steps.
        batch: Views in a step.
        scenes: Most scenes made of all pictures together; what bounds memory, 28 kB each.
        each: Most scenes made of one picture.
        dropout: Share of a vector's numbers left out.
        smoothing: Share of the right class that all share.
        learning_rate: The first; it falls linearly.
        weight_decay: AdamW's.
        bfloat16: Multiply in bfloat16: twice as fast on CPUs that can, slow on others.

    Raises:
        InvalidModelConfigError: If a count is too small.
    """

    channels: int = 48
    steps: int = 2_400
    batch: int = 64
    scenes: int = 4_000
    each: int = 30
    dropout: float = 0.2
    smoothing: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 5e-2
    bfloat16: bool = False

    @property
    def most_pictures(self) -> int:
        """Most pictures that are learned from, each in two scenes at least."""
        return self.scenes // 2

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("steps", 1), ("batch", 2), ("scenes", 4), ("each", 2)):
            if getattr(self, name) < least:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected=f"at least {least}")


def train(
    pictures: Sequence[Image.Image],
    *,
    config: NetConfig | None = None,
    seed: int = 0,
    told: Callable[[int, float], None] = lambda _step, _loss: None,
) -> PictureNet:
    """Return a network that knows a product again: in a heap, on a shelf, turned, cropped, in another light.

    Each picture's product is cut out of its white ground, if it has one, and put into scenes; a view of a scene has to
    be told from those of all other products.

    Source: Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural
    Networks", IEEE TPAMI 2016.

    Args:
        pictures: RGB, one a product; 2 at least.
        config: How.
        seed: Of weights, scenes and views.
        told: Called with each step's number and loss.

    Raises:
        InvalidModelConfigError: If there are fewer than two pictures.
        DivergedError: If the loss stops being finite.
    """
    config = config or NetConfig()
    if len(pictures) < 2:
        raise InvalidModelConfigError(name="pictures", value=len(pictures), expected="2 or more, of different products")
    made = scenes_of(pictures, config=config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PictureNet(config.channels)
        head = nn.Linear(net.width, len(made))
        parameters = [*net.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / config.steps)
        net.train()
        for step in range(config.steps):
            shown = torch.randint(len(made), (config.batch,), generator=generator)
            places = torch.randint(made.shape[1], (config.batch,), generator=generator)
            seen = views(made[shown, places].float() / 255, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                vectors = net(seen)
            told_apart = head(F.dropout(vectors, config.dropout))
            loss = F.cross_entropy(told_apart, shown, label_smoothing=config.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            told(step, value := loss.item())
            if not np.isfinite(value):
                raise DivergedError(step=step, loss=value)
    return net.eval()


def scaled_down(picture: Image.Image) -> Image.Image:
    """Return a picture small enough to keep thousands in memory, and as good as before for scenes."""
    small = picture.copy()
    small.thumbnail((_ENOUGH_SIDE, _ENOUGH_SIDE))
    return small


def drawn(count: int, *, config: NetConfig, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return which of so many pictures are learned from, ascending: all, or as many as there is room for.

    >>> drawn(5, config=NetConfig(scenes=4), rng=np.random.default_rng(0)).tolist()
    [2, 4]
    """
    return np.sort(rng.permutation(count)[: config.most_pictures])


def scenes_of(pictures: Sequence[Image.Image], *, config: NetConfig, seed: int) -> Tensor:
    """Return scenes made of some products, uint8 [N, S, 3, 96, 96]; of all products where there is room."""
    rng = np.random.default_rng(seed)
    chosen = drawn(len(pictures), config=config, rng=rng)
    each = max(2, min(config.each, config.scenes // len(chosen)))
    found = torch.zeros(len(chosen), each, 3, _KEPT_SIDE, _KEPT_SIDE, dtype=torch.uint8)
    for row, place in enumerate(chosen):
        product = cutout(pictures[place])
        found[row] = (pixels_of([scene(product, rng) for _ in range(each)], _KEPT_SIDE) * 255).round().byte()
    return found
