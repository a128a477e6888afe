"""The network: six convolutions, then the mean over places; and the folder that it is kept in."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import torch as safetensors_torch
from torch import Tensor, nn

from learners.errors import EncoderUnavailableError
from learners.items.statistics import square

Floats = npt.NDArray[np.float32]

SIDE = 64  # pixels that the network reads
WEIGHTS, FACTS = "picture_net.safetensors", "picture_net.json"
_MEAN, _SPREAD = 0.45, 0.25  # of the pixels of ordinary pictures, roughly
_BATCH = 64


class PictureNet(nn.Module):
    """RGB pictures [n, 3, 64, 64] in [0, 1] to vectors [n, 4 * channels].

    Args:
        channels: Of the first convolution; the last has four times as many.
    """

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.channels = channels
        wide, wider = 2 * channels, 4 * channels
        self.layers = nn.Sequential(
            _convolution(3, channels, size=5, stride=2),
            _convolution(channels, channels),
            _convolution(channels, wide, stride=2),
            _convolution(wide, wide),
            _convolution(wide, wider, stride=2),
            _convolution(wider, wider),
        )

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return 4 * self.channels

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the vectors, [n, 4 * channels]."""
        planes = ((pixels - _MEAN) / _SPREAD).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.layers(planes).float().mean(dim=(-1, -2))
        return found

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return one vector per RGB picture, float32 [n, 4 * channels]."""
        self.eval()
        starts = range(0, len(pictures), _BATCH)
        parts = [self(pixels_of(pictures[start : start + _BATCH])).numpy() for start in starts]
        return np.concatenate([np.zeros((0, self.width), np.float32), *parts])

    def save(self, folder: Path, *, facts: dict[str, Any]) -> None:
        """Write weights, in half precision, and what is known of them.

        Args:
            folder: Made if it is not there.
            facts: Of what, and how, it was trained.
        """
        folder.mkdir(parents=True, exist_ok=True)
        halves = {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        (folder / WEIGHTS).write_bytes(safetensors_torch.save(halves))  # `save_file` lets nobody else read it
        stated = {"channels": self.channels, **facts}
        (folder / FACTS).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            EncoderUnavailableError: If it is not there, or not whole.
        """
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            net = cls(int(facts["channels"]))
            net.load_state_dict(
                {name: value.float() for name, value in safetensors_torch.load_file(folder / WEIGHTS).items()}
            )
        except Exception as error:  # safetensors raises errors of its own
            raise EncoderUnavailableError(name=str(folder), cause=str(error), setting="image_encoder") from error
        return net.eval()

    def digest(self) -> str:
        """Return what tells two networks apart: 16 hexadecimal digits of the SHA-256 of the weights."""
        found = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            found.update(name.encode() + value.numpy().tobytes())
        return found.hexdigest()[:16]


def pixels_of(pictures: Sequence[Image.Image], side: int = SIDE) -> Tensor:
    """Return the middle squares of RGB pictures, scaled, in [0, 1], [n, 3, side, side]."""
    if not pictures:
        return torch.zeros(0, 3, side, side)
    return torch.from_numpy(np.stack([square(picture, side) for picture in pictures])).permute(0, 3, 1, 2)


def _convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())
