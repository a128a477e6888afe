"""The encoder `trained`: statistics of a picture, and beside them what a network trained here makes of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from learners.items.picture_net.network import FACTS, PictureNet
from learners.items.statistics import WIDTH, statistics_of

Floats = npt.NDArray[np.float32]

TRAINED = "trained"
BUILT_IN = Path(__file__).parent / TRAINED
"""Trained on the 81 studio pictures of the Grocery Store data set (MIT licence); see docs/multimodal.md."""


class TrainedEncoder:
    """Statistics [975] and the network's vector [4 * channels], side by side; 28 ms of a core a picture (24 without).

    Args:
        folder: Where `alluvium pictures train` put the network; None: the one that comes with Alluvium.

    Raises:
        EncoderUnavailableError: If there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.net = PictureNet.load(folder or BUILT_IN)
        self.fingerprint = f"{TRAINED}:1:{self.net.digest()}"

    @property
    def width(self) -> int:
        """V."""
        return WIDTH + self.net.width

    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return one vector per RGB picture, float32 [n, V]."""
        return np.hstack([statistics_of(pictures), self.net.encode(pictures)]).astype(np.float32)


def is_trained_here(folder: Path) -> bool:
    """Return whether a folder holds a network of ours."""
    return (folder / FACTS).is_file()
