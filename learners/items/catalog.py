"""The catalogue as learners see it: a stable `item_index` per `item_id`, its text, and whether it may be ranked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.text import cut, scrubbed

PADDING = 0
_MAX_TEXT_CHARACTERS = 2_000  # encoders read 256 tokens at most; more would only cost memory


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What learners keep of one item; picture and attributes only in a detailed catalogue."""

    text: str = ""
    title: str = ""
    category: tuple[str, ...] = ()  # path, widest first
    brand: str | None = None
    price: float | None = None
    image: str = ""  # where its picture is
    attributes: tuple[tuple[str, Any], ...] = ()  # whatever else the shop says of it, by name


class Catalog:
    """Give every item an `item_index` that never changes, and remember its text.

    Indexes are dense and only ever grow: a delisted item keeps its row, so that histories and embeddings stay valid.

    Args:
        detailed: Keep pictures' places and attributes too, for a model that is told of them; else only text is kept.

    >>> catalog = Catalog()
    >>> catalog.upsert("mug", title="Blue mug", brand="Acme", category=("Kitchen", "Mugs"))
    1
    >>> catalog.text_of(1)
    'Blue mug. Acme. Kitchen > Mugs'
    >>> catalog.admit("seen-but-unlisted"), catalog.index_of("never-seen"), len(catalog)
    (2, 0, 3)
    >>> catalog.delist("mug"); catalog.active.tolist()
    [False, False, True]
    """

    def __init__(self, *, detailed: bool = False) -> None:
        self.detailed = detailed
        self.item_ids: list[str] = [""]
        self._indexes: dict[str, int] = {}
        self._entries: list[CatalogEntry] = [CatalogEntry()]
        self._active = np.zeros(64, dtype=np.bool_)
        self._changed: set[int] = set()

    def __len__(self) -> int:
        """Rows, padding included: every index is below it."""
        return len(self.item_ids)

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """Whether each item may be ranked, bool [N]; a view, to be read only."""
        return self._active[: len(self.item_ids)]

    def upsert(
        self,
        item_id: str,
        *,
        title: str = "",
        description: str = "",
        category: Sequence[str] = (),
        brand: str | None = None,
        price: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        image: str | None = None,
    ) -> int:
        """List an item, or replace what is known of it; returns its `item_index`."""
        index = self._index(item_id)
        text = item_text(title=title, description=description, category=category, brand=brand, attributes=attributes)
        entry = CatalogEntry(text, title, tuple(category), brand, price)
        if self.detailed:
            entry = replace(entry, image=image or "", attributes=tuple(sorted(_plain(attributes or {}).items())))
        before, self._entries[index] = self._entries[index], entry
        if text != before.text or (self.detailed and entry != before):
            self._changed.add(index)
        self._active[index] = True
        return index

    def admit(self, item_id: str) -> int:
        """Return the item's index, giving it one if nobody has listed it yet; what was delisted stays delisted."""
        if (index := self._indexes.get(item_id, PADDING)) != PADDING:
            return index
        index = self._index(item_id)
        self._active[index] = True
        return index

    def delist(self, item_id: str) -> None:
        """Stop ranking an item; its index and text remain. An unknown item is remembered as delisted."""
        self._active[self._index(item_id)] = False

    def index_of(self, item_id: str) -> int:
        """Return the item's index, or 0 if it has none."""
        return self._indexes.get(item_id, PADDING)

    def indexes_of(self, item_ids: Iterable[str]) -> npt.NDArray[np.int32]:
        """Return the indexes of many items, int32; 0 where unknown."""
        get = self._indexes.get
        return np.fromiter((get(item_id, PADDING) for item_id in item_ids), dtype=np.int32)

    def text_of(self, item_index: int) -> str:
        """Return the text that stands for the item in the encoder; empty if nobody described it."""
        return self._entries[item_index].text

    def title_of(self, item_index: int) -> str:
        """Return the item's title."""
        return self._entries[item_index].title

    def category_of(self, item_index: int) -> tuple[str, ...]:
        """Return the item's category path, widest first."""
        return self._entries[item_index].category

    def brand_of(self, item_index: int) -> str | None:
        """Return the item's brand."""
        return self._entries[item_index].brand

    def price_of(self, item_index: int) -> float | None:
        """Return the item's price."""
        return self._entries[item_index].price

    def image_of(self, item_index: int) -> str:
        """Return where the item's picture is; empty if it has none, or the catalogue is not detailed."""
        return self._entries[item_index].image

    def attributes_of(self, item_index: int) -> dict[str, Any]:
        """Return everything structured that is known of the item, by name.

        >>> catalog = Catalog(detailed=True)
        >>> catalog.attributes_of(catalog.upsert("mug", brand="Acme", price=9, attributes={"colour": "red"}))
        {'colour': 'red', 'brand': 'Acme', 'price': 9}
        """
        entry = self._entries[item_index]
        own = {"category": list(entry.category), "brand": entry.brand, "price": entry.price}
        return dict(entry.attributes) | {name: value for name, value in own.items() if value not in (None, [])}

    def take_changed(self) -> list[int]:
        """Return, once, the indexes of what is described anew since the last call, ascending.

        A detailed catalogue also counts what is said by picture, attributes or price alone.
        """
        changed, self._changed = sorted(self._changed), set()
        return changed

    def get_state(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "items": [
                [item_id, entry.text, entry.title, list(entry.category), entry.brand, entry.price]
                + ([entry.image, [list(pair) for pair in entry.attributes]] if self.detailed else [])
                for item_id, entry in zip(self.item_ids[1:], self._entries[1:], strict=True)
            ],
            "delisted": np.flatnonzero(~self.active)[1:].tolist(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described, by a catalogue of either kind; every text counts as changed."""
        self.__init__(detailed=self.detailed)  # type: ignore[misc]  # the empty catalogue is defined in one place
        for item_id, text, title, category, brand, price, *details in state["items"]:
            index = self.admit(item_id)
            entry = CatalogEntry(text, title, tuple(category), brand, price)
            if self.detailed and details:
                image, attributes = details
                entry = replace(entry, image=image, attributes=tuple((name, value) for name, value in attributes))
            self._entries[index] = entry
            if text or (self.detailed and entry != CatalogEntry()):
                self._changed.add(index)
        self._active[state["delisted"]] = False

    def _index(self, item_id: str) -> int:
        if (index := self._indexes.get(item_id)) is not None:
            return index
        if not item_id:
            message = "item_id is empty; the empty id stands for padding"
            raise ValueError(message)
        index = len(self.item_ids)
        if index == len(self._active):
            self._active = np.concatenate([self._active, np.zeros_like(self._active)])
        self.item_ids.append(item_id)
        self._indexes[item_id] = index
        self._entries.append(CatalogEntry())
        return index


def item_text(
    *,
    title: str = "",
    description: str = "",
    category: Sequence[str] = (),
    brand: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> str:
    """Join what describes an item into one text, the most telling first.

    >>> item_text(title="Mug", category=["Home", "Kitchen"], attributes={"colour": "red", "lid": None})
    'Mug. Home > Kitchen. colour: red'
    """
    plain = [
        f"{name}: {value}"
        for name, value in sorted((attributes or {}).items())
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    parts = [title, brand or "", " > ".join(category), ", ".join(plain), description]
    return cut(scrubbed(". ".join(part.strip() for part in parts if part and part.strip())), _MAX_TEXT_CHARACTERS)


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be kept of free-form attributes: plain values, and lists of them.

    >>> _plain({"colour": "red", "sizes": ["S", {"eu": 36}], "seller": {"name": "Ann"}, "lid": None})
    {'colour': 'red', 'sizes': ['S']}
    """
    kept: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, str | int | float):
            kept[name] = value
        elif isinstance(value, list | tuple):
            kept[name] = [one for one in value if isinstance(one, str | int | float)]
    return kept
