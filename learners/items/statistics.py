"""Statistics of a picture: how much of which colour, and how strong edges of each size and direction are."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Floats = npt.NDArray[np.float32]

SIDE = 64  # pixels; the middle square of a picture, scaled
_BINS = (12, 4, 4)  # hue, saturation, value
_SCALES, _DIRECTIONS = 4, 6
_CELLS = 2  # texture is averaged over the whole and over 2 x 2 quarters
_FLOOR = 1e-3  # below this a response is noise; logarithms start here
_BATCH = 64
_OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))  # grey, red-green, yellow-blue

COLOURS = 2 * 12 * 4 * 4
_PLACES = 1 + _CELLS**2
_TEXTURES = 3 * _PLACES * (1 + _SCALES * _DIRECTIONS) + _DIRECTIONS**2 * _SCALES * (_SCALES - 1) // 2
WIDTH = COLOURS + _TEXTURES


def statistics_of(pictures: Sequence[Image.Image]) -> Floats:
    """Return colour and texture of each picture, float32 [n, WIDTH].

    Colour: square roots of the shares of 192 bins of hue, saturation and value, of the whole and of the middle.
    Texture: logarithms of the mean modulus of Morlet wavelets at 4 scales and 6 directions, over grey and two opponent
    colours, whole and by quarter; and of wavelets over the grey moduli, which tell regular texture from single edges.

    Source: Bruna & Mallat, "Invariant Scattering Convolution Networks", IEEE TPAMI 2013; Swain & Ballard, "Color
    Indexing", IJCV 1991.
    """
    parts = [np.zeros((0, WIDTH), np.float32)]
    for start in range(0, len(pictures), _BATCH):
        pixels = np.stack([square(picture) for picture in pictures[start : start + _BATCH]])
        colours = np.stack([colours_of(picture) for picture in pixels])
        parts.append(np.hstack([colours, textures_of(torch.from_numpy(pixels)).numpy()]).astype(np.float32))
    return np.concatenate(parts)


def square(picture: Image.Image, side: int = SIDE) -> Floats:
    """Return the middle square of an RGB picture, scaled, in [0, 1], [side, side, 3]."""
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    middle = picture.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + short, top + short))
    return (np.asarray(middle, dtype=np.float32) / 255).astype(np.float32)


def colours_of(pixels: Floats) -> Floats:
    """Return the square roots of the shares of colours, whole picture and middle half, [384].

    Args:
        pixels: RGB in [0, 1], [S, S, 3].

    >>> shares = colours_of(np.full((8, 8, 3), (1.0, 0.0, 0.0), np.float32))
    >>> shares.shape, np.flatnonzero(shares).tolist()
    ((384,), [15, 207])
    """
    hsv = _hsv(pixels)
    margin = len(pixels) // 4
    counts = [_shares(hsv), _shares(hsv[margin:-margin, margin:-margin])]
    return np.concatenate(counts)


def textures_of(pixels: Tensor) -> Tensor:
    """Return the mean responses of wavelets, float32 [n, 591].

    Args:
        pixels: RGB in [0, 1], [n, S, S, 3].
    """
    planes = torch.einsum("oc,nhwc->nohw", torch.tensor(_OPPONENT), pixels)  # [n, 3, S, S]
    wavelets = _wavelets(pixels.shape[1])
    spectrum = torch.fft.fft2(planes)
    found = [_by_place(planes)]
    for (scale, _), wavelet in wavelets.items():
        modulus = torch.fft.ifft2(spectrum * wavelet).abs()
        found.append((_by_place(modulus) + _FLOOR).log())
        again = torch.fft.fft2(modulus[:, :1])  # of the grey plane
        for (wider, _), second in wavelets.items():
            if wider > scale:
                found.append((torch.fft.ifft2(again * second).abs().mean(dim=(-1, -2)) + _FLOOR).log())
    return torch.cat(found, dim=1)


def _by_place(planes: Tensor) -> Tensor:
    quarters = torch.nn.functional.adaptive_avg_pool2d(planes, _CELLS).flatten(2)
    return torch.cat([planes.mean(dim=(-1, -2))[..., None], quarters], dim=-1).flatten(1)


@cache
def _wavelets(side: int) -> dict[tuple[int, int], Tensor]:
    """Return Morlet wavelets in the frequency domain by scale and direction, each [S, S]."""
    frequencies = np.fft.fftfreq(side) * 2 * np.pi
    down, across = np.meshgrid(frequencies, frequencies, indexing="ij")
    found = {}
    for scale in range(_SCALES):
        centre, spread = 0.75 * np.pi / 2**scale, 0.8 * 2**scale
        for direction in range(_DIRECTIONS):
            angle = np.pi * direction / _DIRECTIONS
            along = np.cos(angle) * across + np.sin(angle) * down
            aside = 2 * (np.cos(angle) * down - np.sin(angle) * across)
            wave = np.exp(-((spread * (along - centre)) ** 2 + (spread * aside) ** 2) / 2)
            mean = np.exp(-((spread * centre) ** 2) / 2) * np.exp(-(spread**2) * (along**2 + aside**2) / 2)
            found[scale, direction] = torch.tensor(wave - mean, dtype=torch.float32)
    return found


def _hsv(pixels: Floats) -> Floats:
    highest, lowest = pixels.max(axis=-1), pixels.min(axis=-1)
    spread = highest - lowest + 1e-8
    red, green, blue = np.moveaxis(pixels, -1, 0)
    hue = np.where(
        highest == red,
        ((green - blue) / spread) % 6,
        np.where(highest == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    return np.stack([hue / 6, (highest - lowest) / (highest + 1e-8), highest], axis=-1).astype(np.float32)


def _shares(hsv: Floats) -> Floats:
    places = [np.minimum((hsv[..., axis] * bins).astype(int), bins - 1) for axis, bins in enumerate(_BINS)]
    counts = np.bincount(np.ravel_multi_index(tuple(places), _BINS).ravel(), minlength=int(np.prod(_BINS)))
    shares: Floats = np.sqrt(counts / counts.sum()).astype(np.float32)
    return shares
