"""What describes the items of a whole catalogue, kept in step with it: text, picture and attributes side by side."""

from collections.abc import Iterable

import numpy as np

from learners.items.attributes import AttributeEncoder
from learners.items.catalog import Catalog
from learners.items.encoder import Encoder
from learners.items.gallery import Gallery, Wanted
from learners.items.layout import Layout
from learners.items.text_vectors import TextVectors


class DescribedVectors(TextVectors):
    """One row per `item_index`, as `ModelConfig.layout` says; zeros for whatever an item lacks.

    Args:
        encoder: Who turns texts into vectors.
        gallery: Has the pictures' vectors once they were looked at; None: items have no pictures.
        attributes: Who turns attributes into vectors; None: they count as part of the text only.

    >>> from learners.items.encoder import HashEncoder
    >>> catalog = Catalog(detailed=True)
    >>> rows = DescribedVectors(HashEncoder(width=8), attributes=AttributeEncoder(width=4))
    >>> _ = catalog.upsert("mug", title="Blue mug"), catalog.upsert("cup", title="Cup", price=3.0)
    >>> rows.update(catalog), rows.matrix(catalog)[:, 8:].any(axis=1).tolist(), rows.layout
    (2, [False, False, True], Layout(text=8, image=0, attributes=4))
    """

    def __init__(
        self, encoder: Encoder, *, gallery: Gallery | None = None, attributes: AttributeEncoder | None = None
    ) -> None:
        self.gallery, self._attributes = gallery, attributes
        self.layout = Layout(
            text=encoder.width,
            image=0 if gallery is None else gallery.width,
            attributes=0 if attributes is None else attributes.width,
        )
        super().__init__(encoder)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(self.layout)

    def wanted(self, catalog: Catalog, indexes: Iterable[int], *, anew: bool = False) -> list[Wanted]:
        """Return the pictures of these items, as far as they have one, for the gallery to look at.

        Args:
            catalog: The catalogue.
            indexes: Of items.
            anew: The shop said so again; see `Wanted`.
        """
        if self.gallery is None:
            return []
        return [Wanted(index, catalog.image_of(index), anew) for index in indexes if catalog.image_of(index)]

    def take_pictures(self, catalog: Catalog) -> list[int]:
        """Take in the pictures that were looked at; returns the item indexes whose rows that changed."""
        if self.gallery is None:
            return []
        self._grow(len(catalog))
        text, stop = self.layout.text, self.layout.text + self.layout.image
        changed = []
        for index, (source, vector) in self.gallery.take().items():
            own = self._rows[index, text:stop]
            if catalog.image_of(index) == source and not np.array_equal(own, vector):  # else a newer one is on its way
                own[:] = vector
                changed.append(index)
        return sorted(changed)

    def _describe(self, catalog: Catalog, indexes: list[int]) -> None:
        text, image, attributes = self.layout
        self._rows[indexes, :text] = self._encoder.encode([catalog.text_of(index) for index in indexes])
        if self.gallery is not None and (bare := [index for index in indexes if not catalog.image_of(index)]):
            self._rows[bare, text : text + image] = 0.0
        if self._attributes is not None:
            found = self._attributes.encode([catalog.attributes_of(index) for index in indexes])
            self._rows[indexes, text + image : text + image + attributes] = found
