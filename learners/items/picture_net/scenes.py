"""From one studio picture, how the product may look in a shop: in a heap or on a shelf, lit and tinted somehow."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

SIDE = 160  # pixels of a scene
_WHITE = 235  # a pixel whose darkest channel is above this is studio background


def cutout(picture: Image.Image) -> Image.Image:
    """Return a studio picture without its white background, cropped, RGBA.

    >>> studio = Image.new("RGB", (40, 40), "white")
    >>> studio.paste("red", (10, 10, 30, 25))
    >>> cutout(studio).size
    (20, 15)
    """
    pixels = np.asarray(picture.convert("RGB"))
    solid = pixels.min(axis=-1) < _WHITE
    down, across = np.nonzero(solid)
    if len(down) < 50:
        return picture.convert("RGBA")
    smooth = Image.fromarray((solid * 255).astype(np.uint8)).filter(ImageFilter.MedianFilter(5))
    layered = Image.fromarray(np.dstack([pixels, np.asarray(smooth)]))
    return layered.crop((int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1))


def scene(product: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a picture of many of a product, RGB, SIDE pixels.

    Args:
        product: As `cutout` returns it.
        rng: Source of size, arrangement, light and tint.
    """
    ground = tuple(rng.integers(30, 190, 3).tolist())
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    ratio = SIDE * rng.uniform(0.35, 0.9) / max(product.size)
    width, height = (max(8, int(side * ratio)) for side in product.size)
    small = product.resize((width, height), Image.Resampling.BICUBIC)
    places = _shelf(width, height) if rng.random() < 0.5 else _heap(width, height, rng)
    for left, top, turned in places:
        thing = small.rotate(turned, expand=True, resample=Image.Resampling.BICUBIC) if turned else small
        picture.paste(thing, (left, top), thing)
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.55, 1.05))
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.8, 1.3))
    tinted = np.asarray(picture) * rng.uniform(0.9, 1.1, 3)
    return Image.fromarray(tinted.clip(0, 255).astype(np.uint8))


def _shelf(width: int, height: int) -> list[tuple[int, int, float]]:
    rows, columns = range(-height // 3, SIDE, max(4, height)), range(-width // 3, SIDE, max(4, int(width * 1.02)))
    return [(left, top, 0.0) for top in rows for left in columns]


def _heap(width: int, height: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
    number = min(60, int(rng.integers(1, 3) * (SIDE / width) * (SIDE / height) * 1.5) + 1)
    lefts, tops = (rng.uniform(-side / 2, SIDE - side / 2, number).astype(int) for side in (width, height))
    turns: npt.NDArray[np.float64] = rng.uniform(-180, 180, number)
    return list(zip(lefts.tolist(), tops.tolist(), turns.tolist(), strict=True))
