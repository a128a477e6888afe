"""What learners learn from: anything that says who did what to which item, and when."""

from dataclasses import dataclass
from typing import Protocol

EVENT_TYPES = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
"""The vocabulary; its positions are the codes that histories hold. A type of the shop's own is `other`."""

TARGET_TYPES = frozenset({"view", "click", "cart", "purchase"})
"""Interest in an item: what is predicted, measured and learned. The rest is kept in histories and nothing more."""

_CODES = {name: code for code, name in enumerate(EVENT_TYPES)}
_OTHER = _CODES["other"]
_TARGET_CODES = frozenset(_CODES[name] for name in TARGET_TYPES)


class Interaction(Protocol):
    """One validated event, as `streams.events.Interaction` and `Observation` both are."""

    @property
    def user_id(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def event_time_ms(self) -> int: ...
    @property
    def late(self) -> bool: ...
    @property
    def price(self) -> float | None: ...
    @property
    def surface(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An interaction for those who have no Kafka: evaluation and tests."""

    user_id: str
    item_id: str
    event_type: str
    event_time_ms: int
    late: bool = False
    price: float | None = None
    surface: str | None = None


def code_of(event_type: str) -> int:
    """Return the code of an event type.

    >>> code_of("view"), code_of("wishlist_add") == code_of("other")
    (0, True)
    """
    return _CODES.get(event_type, _OTHER)


def is_target(event_type: str) -> bool:
    """Say whether an interaction of this type is predicted, measured and learned.

    >>> is_target("purchase"), is_target("return"), is_target("impression")
    (True, False, False)
    """
    return event_type in TARGET_TYPES


def is_target_code(code: int) -> bool:
    """Say the same of a type's code."""
    return code in _TARGET_CODES
