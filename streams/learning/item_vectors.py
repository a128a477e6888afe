"""Text vectors of items that the current release has never seen, so that workers can rank them until the next one."""

from base64 import b64decode, b64encode
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from learners.items.catalog import Catalog

Floats = npt.NDArray[np.float32]

ITEM_VECTORS = "item_vector"
"""The expert's name on `experts.updates`; its keys are item_ids."""

_decode = msgspec.json.Decoder(str).decode


def encode_item_vector(vector: Floats) -> bytes:
    """Return the payload of a text vector [T]: float32 in base64, so that nothing is rounded.

    >>> decode_item_vector(encode_item_vector(np.array([0.5, -2.0], np.float32))).tolist()
    [0.5, -2.0]
    """
    return b'"%s"' % b64encode(vector.astype("<f4").tobytes())


def decode_item_vector(payload: bytes | msgspec.Raw) -> Floats:
    """Return the text vector [T] of a payload.

    Raises:
        msgspec.MsgspecError: If it is not JSON of a string.
        ValueError: If the string is no vector.
    """
    return np.frombuffer(b64decode(_decode(payload), validate=True), "<f4").astype(np.float32)


class ItemVectors:
    """Know which items' text vectors are out, and what must change when a release arrives or an item is described.

    >>> catalog = Catalog()
    >>> _ = catalog.upsert("mug", title="Mug"), catalog.upsert("cup", title="Cup")
    >>> vectors, matrix = ItemVectors(), np.eye(3, 2, k=-1, dtype=np.float32)
    >>> vectors.adopt(["", "mug"])
    >>> [item_id for item_id, vector in vectors.changes(catalog, matrix, described=[])]
    ['cup']
    >>> vectors.adopt(["", "mug", "cup"])
    >>> vectors.changes(catalog, matrix, described=[])
    [('cup', None)]
    """

    def __init__(self) -> None:
        self._known: frozenset[str] | None = None  # item_ids of the release; None: no release ranks yet
        self._out: set[str] = set()
        self._all_anew = False

    def adopt(self, item_ids: Iterable[str]) -> None:
        """A release that knows these items serves from now on."""
        self._known = frozenset(item_ids)
        self._all_anew = True

    def changes(self, catalog: Catalog, matrix: Floats, *, described: Iterable[int]) -> list[tuple[str, Floats | None]]:
        """Return item_id and text vector of what must be published; vector None removes.

        Args:
            catalog: All items.
            matrix: Text vectors [n, T] of the first n items; zeros where there is none.
            described: Item indexes whose text vector is new.
        """
        if self._known is None:
            return []  # the first release will know them
        gone = sorted(self._out & self._known)
        self._out -= self._known
        fresh: list[tuple[str, Floats | None]] = []
        changed = set(described)
        for index in range(1, len(matrix)) if self._all_anew else sorted(changed):
            item_id = catalog.item_ids[index]
            if item_id in self._known or (item_id in self._out and index not in changed) or not matrix[index].any():
                continue
            self._out.add(item_id)
            fresh.append((item_id, matrix[index]))
        self._all_anew = False
        return [*((item_id, None) for item_id in gone), *fresh]
