"""What one more interaction, or one more catalogue entry, adds to the graph. Pure: no database, no clock.

A node is a text that begins with what it is: `item:mug`, `category:Kitchen > Mugs`, `brand:Acme`,
`attribute:colour=red`, `query:blue mug`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from learners.disk import sha256_of
from learners.text import cut, folded, scrubbed

Relation = Literal[
    "category", "brand", "attribute", "co_view", "co_purchase", "substitutes", "complements", "query_led_to"
]
STRUCTURAL: tuple[Relation, ...] = ("category", "brand", "attribute")  # said by the catalogue: true until it says else
LEARNED: tuple[Relation, ...] = ("co_view", "co_purchase", "substitutes", "complements", "query_led_to")

VIEWED = frozenset({"view", "click", "cart"})
_LED_TO = {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 3.0}
_LONGEST_NAME = 200  # characters; a btree entry holds two nodes
_MOST_ATTRIBUTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthConfig:
    """Which interactions belong together.

    Args:
        view_window_ms: Two views further apart are unrelated; the same for a view and the purchase that ended it.
        purchase_window_ms: Two purchases further apart are no basket.
        search_window_ms: A search leads to what is looked at within this time.
        tail: Most interactions of a person that are remembered for this.
    """

    view_window_ms: int = 30 * 60_000
    purchase_window_ms: int = 24 * 3_600_000
    search_window_ms: int = 10 * 60_000
    tail: int = 20


@dataclass(frozen=True, slots=True)
class Step:
    """One interaction of a person, as far as the graph remembers it."""

    item_id: str
    event_type: str
    event_time_ms: int
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """Weight added to an edge at a time; below 0 takes back what was added at that time."""

    source: str
    relation: Relation
    target: str
    weight: float
    time_ms: int


def node(kind: str, name: str) -> str:
    """Return a node, its name cut where it is long, without two long names becoming one.

    >>> node("item", "mug"), len(node("query", "x" * 999))
    ('item:mug', 206)
    """
    name = scrubbed(name)  # of what Postgres cannot keep
    if kind != "item" and len(name) > _LONGEST_NAME:
        name = f"{cut(name, _LONGEST_NAME - 13)}~{sha256_of(name.encode())[:12]}"
    return f"{kind}:{name}"


def item_of(text: str) -> str | None:
    """Return the item_id of a node, or None if it is no item.

    >>> item_of("item:a:b"), item_of("brand:Acme")
    ('a:b', None)
    """
    kind, _, name = text.partition(":")
    return name if kind == "item" else None


def query_node(query: str) -> str:
    """Return the node of a query; spelling with other case, width or blanks is the same query.

    >>> query_node("  Blue   MUG "), query_node("防晒霜　ＳＰＦ５０")
    ('query:blue mug', 'query:防晒霜 spf50')
    """  # noqa: RUF002 - full width is the point
    return node("query", " ".join(folded(query).split()))


def grow(
    tail: Sequence[Step], step: Step, *, category_of: Callable[[str], str | None], config: GrowthConfig
) -> list[Delta]:
    """Return what one interaction adds, given what the person did before.

    - co_view: both were looked at within the view window.
    - co_purchase: both were bought within the purchase window; complements, where their categories differ.
    - substitutes: one was bought, the other of the same category only looked at in the view window before it. When the
      other is bought after all, within the purchase window, that is taken back.
    - query_led_to: the item was looked at or bought for a query.

    Args:
        tail: The person's interactions before this one, oldest first.
        step: The interaction.
        category_of: Category node of an item_id, or None.
        config: What belongs together.

    >>> looked = [Step("mug", "view", 0), Step("cup", "view", 1_000)]
    >>> found = grow(looked, Step("cup", "purchase", 2_000), category_of=lambda item_id: "cups", config=GrowthConfig())
    >>> [(delta.source, delta.relation, delta.target) for delta in found]
    [('item:cup', 'substitutes', 'item:mug'), ('item:mug', 'substitutes', 'item:cup')]
    """
    found: list[Delta] = []
    if step.event_type in VIEWED:
        for other in _recent(tail, step, VIEWED, config.view_window_ms):
            found += _both(step.item_id, "co_view", other.item_id, 1.0, step.event_time_ms)
    elif step.event_type == "purchase":
        found += _bought(tail, step, category_of, config)
    return found + _led_to(tail, step, config)


def remembered(tail: Sequence[Step], step: Step, config: GrowthConfig) -> list[Step]:
    """Return the tail after an interaction."""
    oldest_ms = step.event_time_ms - max(config.purchase_window_ms, config.view_window_ms)
    return [*(one for one in tail if one.event_time_ms >= oldest_ms), step][-config.tail :]


def described(
    item_id: str,
    *,
    category: Sequence[str] = (),
    brand: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> list[tuple[str, Relation, str]]:
    """Return the edges that a catalogue entry says: source, relation, target.

    >>> described("mug", category=["Kitchen", "Mugs"], brand="Acme", attributes={"lid": True, "sizes": [1]})
    [('item:mug', 'category', 'category:Kitchen > Mugs'), ('category:Kitchen > Mugs', 'category', 'category:Kitchen'),
     ('item:mug', 'brand', 'brand:Acme'), ('item:mug', 'attribute', 'attribute:lid=True')]
    """
    item, edges = node("item", item_id), list[tuple[str, Relation, str]]()
    below = item
    for depth in range(len(category), 0, -1):
        above = node("category", " > ".join(category[:depth]))
        edges.append((below, "category", above))
        below = above
    if brand:
        edges.append((item, "brand", node("brand", brand)))
    plain = [
        (name, value) for name, value in sorted((attributes or {}).items()) if isinstance(value, str | int | float)
    ]
    edges += [(item, "attribute", node("attribute", f"{name}={value}")) for name, value in plain[:_MOST_ATTRIBUTES]]
    return edges


def _bought(
    tail: Sequence[Step], step: Step, category_of: Callable[[str], str | None], config: GrowthConfig
) -> list[Delta]:
    found: list[Delta] = []
    category, basket = category_of(step.item_id), set[str]()
    for other in _recent(tail, step, {"purchase"}, config.purchase_window_ms):
        basket.add(other.item_id)
        found += _both(step.item_id, "co_purchase", other.item_id, 1.0, step.event_time_ms)
        theirs = category_of(other.item_id)
        if category is not None and theirs is not None and theirs != category:
            found += _both(step.item_id, "complements", other.item_id, 1.0, step.event_time_ms)
        elif category is not None and theirs == category and _passed_over(tail, step, other, config):
            found += _both(step.item_id, "substitutes", other.item_id, -1.0, other.event_time_ms)
    for other in _recent(tail, step, VIEWED, config.view_window_ms):
        if category is not None and other.item_id not in basket and category_of(other.item_id) == category:
            found += _both(step.item_id, "substitutes", other.item_id, 1.0, step.event_time_ms)
    return found


def _passed_over(tail: Sequence[Step], step: Step, purchase: Step, config: GrowthConfig) -> bool:
    """Say whether this item counted as passed over for another when that was bought."""
    before = tail[: tail.index(purchase)]
    bought = any(
        one.item_id == step.item_id for one in _recent(before, purchase, {"purchase"}, config.purchase_window_ms)
    )
    looked = any(one.item_id == step.item_id for one in _recent(before, purchase, VIEWED, config.view_window_ms))
    return looked and not bought


def _led_to(tail: Sequence[Step], step: Step, config: GrowthConfig) -> list[Delta]:
    weight = _LED_TO.get(step.event_type)
    if weight is None:
        return []
    query = step.query
    if query is None:
        searches = [one for one in tail if one.event_type == "search" and one.query]
        if searches and abs(step.event_time_ms - searches[-1].event_time_ms) <= config.search_window_ms:
            query = searches[-1].query
    if not query or not query.strip():
        return []
    return [Delta(query_node(query), "query_led_to", node("item", step.item_id), weight, step.event_time_ms)]


def _recent(tail: Sequence[Step], step: Step, types: Iterable[str], window_ms: int) -> list[Step]:
    """Return the newest interaction with each other item, of these types and within the window, newest first."""
    newest: dict[str, Step] = {}
    for other in reversed(tail):
        near = abs(step.event_time_ms - other.event_time_ms) <= window_ms
        if near and other.event_type in types and other.item_id != step.item_id:
            newest.setdefault(other.item_id, other)
    return list(newest.values())


def _both(one: str, relation: Relation, other: str, weight: float, time_ms: int) -> list[Delta]:
    first, second = node("item", one), node("item", other)
    return [Delta(first, relation, second, weight, time_ms), Delta(second, relation, first, weight, time_ms)]
