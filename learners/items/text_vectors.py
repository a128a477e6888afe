"""The text vectors of a whole catalogue, kept in step with it."""

import numpy as np
import numpy.typing as npt

from learners.items.catalog import Catalog
from learners.items.encoder import Encoder

Floats = npt.NDArray[np.float32]


class TextVectors:
    """One row per `item_index`; zeros for padding and for items without text.

    Args:
        encoder: Who turns texts into vectors.

    >>> from learners.items.encoder import HashEncoder
    >>> catalog, vectors = Catalog(), TextVectors(HashEncoder(width=8))
    >>> _ = catalog.upsert("mug", title="Blue mug"), catalog.admit("unknown")
    >>> vectors.update(catalog), vectors.matrix(catalog).shape, vectors.matrix(catalog).any(axis=1).tolist()
    (1, (3, 8), [False, True, False])
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows = np.zeros((64, self.width), dtype=np.float32)
        self._waiting: dict[int, None] = {}  # a queue without repeats

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self._encoder.width

    def update(self, catalog: Catalog, *, limit: int | None = None) -> int:
        """Encode what changed in the catalogue, oldest change first; returns how many texts were encoded.

        Args:
            catalog: The catalogue; its list of changes is taken.
            limit: Most texts to encode now; the rest waits for the next call.
        """
        self._waiting |= dict.fromkeys(catalog.take_changed())
        indexes = list(self._waiting)[:limit]
        if indexes:
            self._grow(max(indexes) + 1)
            self._describe(catalog, indexes)
            for index in indexes:
                del self._waiting[index]
        return len(indexes)

    def matrix(self, catalog: Catalog) -> Floats:
        """Return the vectors of the catalogue's items, float32 [N, T]; a view, to be read only."""
        self._grow(len(catalog))
        return self._rows[: len(catalog)]

    def _describe(self, catalog: Catalog, indexes: list[int]) -> None:
        self._rows[indexes] = self._encoder.encode([catalog.text_of(index) for index in indexes])

    def _grow(self, rows: int) -> None:
        if rows > len(self._rows):
            grown = np.zeros((max(rows, 2 * len(self._rows)), self._rows.shape[1]), dtype=np.float32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
