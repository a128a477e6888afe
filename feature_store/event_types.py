"""The event types that features are counted by, and their codes in packed features.

The order is part of the stored format: a code is an index into `EVENT_TYPES`. Append, never insert.
"""

EVENT_TYPES = ("view", "click", "cart", "purchase", "search", "impression", "return", "other")
OTHER = EVENT_TYPES.index("other")
CODES: dict[str, int] = {name: code for code, name in enumerate(EVENT_TYPES)}

# What the shop showed or was asked for is not something that the person did with an item. Were impressions kept in the
# history, one page of results would push out everything the person ever bought.
PASSIVE = frozenset({CODES["search"], CODES["impression"]})
HISTORY_TYPES = tuple(name for name in EVENT_TYPES if CODES[name] not in PASSIVE)

# Weight of one event in a person's category and brand affinities, by code.
AFFINITY_WEIGHTS = tuple(
    {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 4.0}.get(name, 0.0) for name in EVENT_TYPES
)


def code_of(event_type: str) -> int:
    """Give the code that `event_type` is counted under; custom types are `other`.

    >>> code_of("purchase"), code_of("wishlist") == OTHER
    (3, True)
    """
    return CODES.get(event_type, OTHER)
