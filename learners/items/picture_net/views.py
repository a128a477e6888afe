"""Views of pictures that differ in what does not matter: place, size, turn, light, tint, sharpness."""

import torch
import torch.nn.functional as F
from torch import Tensor

from learners.items.picture_net.network import SIDE

_TURN = 0.5  # radians, either way
_SMALLEST = 0.35  # side of what is seen, as a share of the picture's


def views(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return one random view of each picture, [n, 3, 64, 64] in [0, 1].

    Args:
        pictures: RGB in [0, 1], [n, 3, S, S].
        generator: Source of what differs.
    """

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), *shape, generator=generator)

    size, stretch, turn = draw(_SMALLEST, 1.0), draw(0.8, 1.25), draw(-_TURN, _TURN)
    mirrored = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    across, down = (draw(-1, 1) * (1 - size) for _ in range(2))
    cosine, sine = turn.cos(), turn.sin()
    maps = torch.stack([
        torch.stack([size * stretch * cosine * mirrored, -size * sine, across], dim=1),
        torch.stack([size * sine * mirrored, size / stretch * cosine, down], dim=1),
    ], dim=1)  # fmt: skip
    grid = F.affine_grid(maps, [len(pictures), 3, SIDE, SIDE], align_corners=False)
    seen = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    mean = seen.mean(dim=(-1, -2), keepdim=True)
    seen = ((seen - mean) * draw(0.6, 1.4, 1, 1, 1) + mean) * draw(0.6, 1.4, 1, 1, 1) * draw(0.85, 1.15, 3, 1, 1)
    blurred = F.avg_pool2d(seen, 3, 1, 1)
    return torch.where(draw(0, 1, 1, 1, 1) < 0.5, blurred, seen).clamp(0, 1)
