"""The Grocery Store data set: products as a shop lists them (studio picture, description), and phone photos of them.

Source: Klasson, Zhang & Kjellstroem, "A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels", WACV
2019.
"""

import csv
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from learners.errors import LearnerError

PRODUCTS, PHOTOS = "iconic_descriptions_splits.tar", "natural_val.tar"


class DataMissingError(LearnerError, FileNotFoundError):
    """The data set is not where it was looked for."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"--data is {str(path)!r}; expected a folder with {PRODUCTS} and {PHOTOS}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Product:
    """What a shop says about a product."""

    title: str
    description: str
    attributes: dict[str, Any]
    picture: Image.Image


@dataclass(frozen=True, slots=True)
class Shop:
    """Products, and photos of them.

    Args:
        products: N of them.
        photos: P pictures that people took.
        shown: Which product each photo shows, int64 [P].
    """

    products: Sequence[Product]
    photos: Sequence[Image.Image]
    shown: npt.NDArray[np.int64]


def data_folder() -> Path:
    """Where the data set lies unless an option says otherwise."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("ALLUVIUM_DATA_DIR", shared)) / "grocery_store"


def load(folder: Path) -> Shop:
    """Read both archives in place.

    Raises:
        DataMissingError: If they are not there.
    """
    if not all((folder / name).exists() for name in (PRODUCTS, PHOTOS)):
        raise DataMissingError(path=folder)
    with tarfile.open(folder / PRODUCTS) as tar:
        rows = list(csv.reader(io.StringIO(_text(tar, "dataset/classes.csv"))))[1:]
        products = [_product(tar, row) for row in rows]
        lines = [line.split(",") for line in _text(tar, "dataset/val.txt").splitlines() if line.strip()]
    with tarfile.open(folder / PHOTOS) as tar:
        photos = [_picture(tar, f"dataset/{line[0].strip()}") for line in lines]
    return Shop(products, photos, np.array([int(line[1]) for line in lines]))


def toy(*, photos: int = 5) -> Shop:
    """Nine products, three shapes in three colours, and photos of them before a grey wall."""
    rng = np.random.default_rng(0)
    names = [(colour, shape) for colour in ("red", "green", "blue") for shape in ("ball", "box", "bar")]
    products = [
        Product(f"{colour} {shape}", f"a {shape}, {colour}", {"category": [shape]}, _drawn(colour, shape))
        for colour, shape in names
    ]
    shown = np.repeat(np.arange(len(names)), photos)
    taken = []
    for number in shown:
        wall = Image.new("RGB", (96, 96), tuple(rng.integers(60, 200, 1).repeat(3).tolist()))
        size = int(rng.integers(40, 80))
        thing = _drawn(*names[number], ground=wall.getpixel((0, 0))).resize((size, size))
        wall.paste(thing, (int(rng.integers(0, 96 - size)), int(rng.integers(0, 96 - size))))
        taken.append(wall)
    return Shop(products, taken, shown)


def _drawn(colour: str, shape: str, *, ground: Any = "white") -> Image.Image:
    picture = Image.new("RGB", (64, 64), ground)
    draw = ImageDraw.Draw(picture)
    if shape == "ball":
        draw.ellipse((8, 8, 56, 56), fill=colour)
    else:
        draw.rectangle((12, 12, 52, 52) if shape == "box" else (26, 2, 38, 62), fill=colour)
    return picture


def _product(tar: tarfile.TarFile, row: Sequence[str]) -> Product:
    name, _, kind, _, picture, description = (cell.strip() for cell in row)
    department = picture.split("/")[2]
    attributes = {"department": department, "kind": kind.replace("-", " ")}
    text = _text(tar, f"dataset{description}").strip()
    return Product(name.replace("-", " "), text, attributes, _picture(tar, f"dataset{picture}"))


def _text(tar: tarfile.TarFile, name: str) -> str:
    return _content(tar, name).decode("utf-8", errors="replace")


def _picture(tar: tarfile.TarFile, name: str) -> Image.Image:
    with Image.open(io.BytesIO(_content(tar, name))) as picture:
        return picture.convert("RGB")


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    found = tar.extractfile(name)
    if found is None:
        raise FileNotFoundError(name)
    return found.read()
