"""What describes items that the current release has never seen, so that workers can rank them until the next one."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from learners.items.catalog import Catalog
from learners.items.layout import Parts

Floats = npt.NDArray[np.float32]

ITEM_VECTORS = "item_vector"
"""The expert's name on `experts.updates`; its keys are item_ids."""

_decode = msgspec.json.Decoder(str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=3)]).decode


def encode_item_vector(parts: Parts) -> bytes:
    """Return the payload of what describes an item: float32 in base64, so that nothing is rounded.

    Args:
        parts: The text vector [T]; where the shop has them, followed by those of picture [V] and attributes [A].

    >>> text, picture = np.array([0.5, -2.0], np.float32), np.array([1.0], np.float32)
    >>> [part.tolist() for part in decode_item_vector(encode_item_vector((text, picture)))]
    [[0.5, -2.0], [1.0]]
    >>> encode_item_vector((picture,)), encode_item_vector((picture, picture))
    (b'"AACAPw=="', b'["AACAPw==","AACAPw=="]')
    """
    texts = [b64encode(part.astype("<f4").tobytes()).decode() for part in parts]
    return msgspec.json.encode(texts[0] if len(texts) == 1 else texts)


def decode_item_vector(payload: bytes | msgspec.Raw) -> Parts:
    """Return what describes an item: its text vector, and others if there are any.

    Raises:
        msgspec.MsgspecError: If it is not JSON of a string, or of one to three of them.
        ValueError: If a string is no vector.
    """
    texts = _decode(payload)
    texts = [texts] if isinstance(texts, str) else texts
    return tuple(np.frombuffer(b64decode(text, validate=True), "<f4").astype(np.float32) for text in texts)


class ItemVectors:
    """Know which items' descriptions are out, and what must change when a release arrives or an item is described.

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
        """Return item_id and row of what must be published; None removes.

        Args:
            catalog: All items.
            matrix: What describes the first n items, [n, T] or wider; zeros where nothing does.
            described: Item indexes whose row is new.
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
