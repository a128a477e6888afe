"""Structured attributes of an item (category, brand, price, whatever the shop adds) as one hashed vector."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.text import folded

Floats = npt.NDArray[np.float32]

_MOST_VALUES = 64  # of one item; a shop's free-form field must not drown the others
_LARGEST = 1e12


class AttributeEncoder:
    """Sign-hash `name=value` pairs; numbers count by their magnitude, so that near ones are alike.

    Args:
        width: A, numbers in a vector.

    >>> encoder = AttributeEncoder(width=64)
    >>> mug, cup, van = encoder.encode([
    ...     {"brand": "Acme", "category": ["Kitchen", "Mugs"], "price": 9.0},
    ...     {"brand": "ACME", "category": ["Kitchen", "Cups"], "price": 8.0},
    ...     {"brand": "Otto", "category": ["Cars"], "price": 30_000.0}])
    >>> bool(mug @ cup > 0.5 > mug @ van), encoder.encode([{}]).any()
    (True, np.False_)

    Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009: signed hashing.
    """

    def __init__(self, *, width: int = 128) -> None:
        self._width = width

    @property
    def width(self) -> int:
        """A."""
        return self._width

    def encode(self, items: Sequence[Mapping[str, Any]]) -> Floats:
        """Return one unit vector per item, float32 [n, A]; the zero vector for an item without attributes.

        Args:
            items: Attributes by name: texts, numbers, truth values, or lists of them; what nests deeper is left out.
        """
        vectors = np.zeros((len(items), self._width), dtype=np.float32)
        for row, attributes in enumerate(items):
            for place, (feature, value) in enumerate(features_of(attributes)):
                if place == _MOST_VALUES:
                    break
                digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest())
                vectors[row, (digest >> 1) % self._width] += value if digest & 1 else -value
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Floats = vectors / np.maximum(norms, 1e-12)
        return unit


def features_of(attributes: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield hashed features and their weights, by name.

    >>> list(features_of({"organic": True, "fat": 3.0, "colour": "Red", "size": None}))
    [('colour=red', 1.0), ('fat~2', 1.0), ('organic=true', 1.0)]
    """
    for name, value in sorted(attributes.items()):
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool):
                yield f"{folded(name)}={str(one).lower()}", 1.0
            elif isinstance(one, int | float):
                yield from _magnitude(folded(name), float(one))
            elif isinstance(one, str) and one.strip():
                yield f"{folded(name)}={' '.join(folded(one).split())}", 1.0


def _magnitude(name: str, value: float) -> Iterator[tuple[str, float]]:
    """Yield the two nearest steps of a logarithmic scale, nearer ones heavier."""
    if not math.isfinite(value):
        return
    place = math.copysign(math.log2(1 + min(abs(value), _LARGEST)), value)
    below = math.floor(place)
    for step, weight in ((below, below + 1 - place), (below + 1, place - below)):
        if weight:
            yield f"{name}~{step}", weight
