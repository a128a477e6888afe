"""A catalogue that is there as a whole, and the rows that describe its items: what logs are judged and learned by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.items.attributes import AttributeEncoder
from learners.items.catalog import Catalog
from learners.items.described_vectors import DescribedVectors
from learners.items.encoder import Encoder
from learners.items.gallery import Gallery
from learners.items.image import PictureVectors
from learners.items.layout import Layout

_TEXTS, _PICTURES = 128, 8  # between two calls of `progress`

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Describers:
    """Who turns what a catalogue says of items into vectors, with or without Kafka.

    Args:
        texts: Of texts.
        pictures: Of pictures; None: the model is told of none.
        attributes: Of attributes; None: they count as part of the text only.
    """

    texts: Encoder
    pictures: PictureVectors | None = None
    attributes: AttributeEncoder | None = None

    @property
    def layout(self) -> Layout:
        """Of the rows that they make."""
        return self.rows().layout

    def catalogue(self) -> Catalog:
        """Return an empty catalogue that keeps what the rows are made of."""
        return Catalog(detailed=self.pictures is not None or self.attributes is not None)

    def rows(self) -> DescribedVectors:
        """Return the rows of an empty catalogue."""
        gallery = None if self.pictures is None else Gallery(self.pictures)
        return DescribedVectors(self.texts, gallery=gallery, attributes=self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Items and their rows.

    Args:
        items: As `Catalog.upsert` takes them, `item_id` among them; the last word on an item counts.
        catalog: Of these items; read it, and take `catalogue` to admit others.
        vectors: What describes them, by `item_index`, float32 [N, sum of `layout`]; zeros for what they lack.
        layout: Of these rows.
        pictures: How many were `encoded`, and how many rejected, by reason; None: the model is told of none.
    """

    items: Sequence[Mapping[str, Any]]
    catalog: Catalog
    vectors: npt.NDArray[np.float32]
    layout: Layout
    pictures: Mapping[str, int] | None = None

    def catalogue(self) -> Catalog:
        """Return a catalogue of its own, with these items at the same indexes."""
        return _listing(Catalog(detailed=self.catalog.detailed), self.items)


def shelf_of(
    items: Sequence[Mapping[str, Any]],
    describers: Describers,
    *,
    progress: Progress = lambda _what, _done, _total: None,
) -> Shelf:
    """Describe items, and wait for it: a picture that cannot be used is counted, and leaves its item without one.

    Args:
        items: As `Catalog.upsert` takes them.
        describers: Who describes them.
        progress: See `Progress`.

    Raises:
        EncoderUnavailableError: If an encoder's weights are nowhere to be found.

    >>> from learners.items.encoder import HashEncoder
    >>> shelf = shelf_of([{"item_id": "mug", "title": "Blue mug"}], Describers(texts=HashEncoder(width=8)))
    >>> shelf.vectors.shape, shelf.catalog.item_ids, shelf.pictures
    ((2, 8), ['', 'mug'], None)
    """
    catalog, rows = _listing(describers.catalogue(), items), describers.rows()
    done, total = 0, len(catalog) - 1
    while described := rows.update(catalog, limit=_TEXTS):
        done += described
        progress("item texts", done, total)
    if rows.gallery is not None:
        wanted = rows.wanted(catalog, range(1, len(catalog)))
        for start in range(0, len(wanted), _PICTURES):
            rows.gallery.encode(wanted[start : start + _PICTURES])
            progress("pictures", min(start + _PICTURES, len(wanted)), len(wanted))
        rows.take_pictures(catalog)
    return Shelf(
        items=items,
        catalog=catalog,
        vectors=rows.matrix(catalog),
        layout=rows.layout,
        pictures=None if rows.gallery is None else dict(rows.gallery.counts),
    )


def _listing(catalog: Catalog, items: Sequence[Mapping[str, Any]]) -> Catalog:
    for item in items:
        catalog.upsert(**item)
    return catalog
