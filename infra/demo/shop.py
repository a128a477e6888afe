"""The simulated shop: visits with browse, click, cart and purchase, and reactions to the rankings really published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from infra.demo.catalogue import Catalogue
from infra.demo.conversions import COMPANION_CHANCE, GO_ON_CHANCE, Conversions, SameForAll
from infra.demo.visitors import Visitors
from streams.events import CatalogItem, ClickstreamEvent, Ranking

ATTENTION_DECAY = 0.85  # chance to look at a place, relative to the place above it
CLICK_LIMIT = 0.4  # chance that a visitor clicks an item among the ten wanted most, once looked at
STEP_MS = 20_000  # mean simulated time between two events of a visit


def best_click_rate(places: int) -> float:
    """Click rate of a list that holds, best first, what its visitor wants most: no ranking can do better.

    >>> round(best_click_rate(10), 3)
    0.214
    """
    return CLICK_LIMIT * sum(ATTENTION_DECAY**place for place in range(places)) / places


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """One list that was shown, and what came of it: the raw material of click rates.

    Args:
        visitor: Index of the visitor.
        is_control: True if the visitor is never shown a learned ranking.
        visit: 0 for the first visit of this visitor.
        at_ms: Event time.
        shown: Places shown.
        clicks: Places clicked.
        model_version: Of the ranking shown; None for the bestseller list.
        reasons: Reason of each clicked place, if a ranking was shown.
    """

    visitor: int
    is_control: bool
    visit: int
    at_ms: int
    shown: int
    clicks: int
    model_version: int | None
    reasons: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Traffic:
    """What the shop produces in one step of the simulated clock: events in time order, and new catalogue records."""

    events: list[ClickstreamEvent] = field(default_factory=list)
    arrivals: list[CatalogItem] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ListOutcome:
    """One list, what came of it place by place, and what the visitor wanted when it was shown.

    Args:
        visitor: Index of the visitor.
        shown: Product indexes, by place.
        clicked: Places clicked.
        carted: Those of them that then went into the cart.
        bought: Those of them that then were bought.
        is_buyer: Whether anything was bought in the visit, found on the list or by browsing.
        viewed: Products looked at by browsing, in order; at least one.
        utility: What the visitor wanted, see `Visitors.utility`.
    """

    visitor: int
    shown: tuple[int, ...]
    clicked: tuple[int, ...]
    carted: tuple[int, ...]
    bought: tuple[int, ...]
    is_buyer: bool
    viewed: tuple[int, ...]
    utility: NDArray[np.float64]


@dataclass(kw_only=True)
class _Visit:
    """A visit under way: the clock of one visitor."""

    visitor: int
    user_id: str
    session_id: str
    clock_ms: float
    end_ms: int  # the visit ends within its step, or events of the next step could come before these
    events: list[tuple[int, ClickstreamEvent]] = field(default_factory=list)


class Shop:
    """A website whose visitors are simulated. Learned rankings go to everybody outside the control group.

    The control group, and whoever has no ranking yet, sees the bestsellers so far: what a shop without learning shows.

    Args:
        catalogue: What it sells.
        visitors: Who comes.
        start_ms: Event time at which the traffic begins.
        visits_per_ms: Visits per simulated millisecond.
        seed: With the same rankings received at the same steps, the same seed gives the same traffic.
        places: Length of the list on the home page.
        conversions: Who buys what was clicked; by default everybody buys everything alike.
        observer: Told of every list, with the truth that only the simulator knows.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        visitors: Visitors,
        start_ms: int,
        visits_per_ms: float,
        seed: int,
        places: int = 10,
        conversions: Conversions | None = None,
        observer: Callable[[ListOutcome], None] = lambda _outcome: None,
    ) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._seed = seed
        self._catalogue = catalogue
        self._visitors = visitors
        self._index_of = {item.item_id: index for index, item in enumerate(catalogue.items)}
        self._rankings: dict[str, Ranking] = {}
        self._sales = np.zeros(len(catalogue))
        self._visits = np.zeros(len(visitors), dtype=np.int64)
        self._visits_per_ms = visits_per_ms
        self._places = places
        self._conversions = conversions or SameForAll()
        self._observer = observer
        self._events_made = 0
        self.now_ms = start_ms
        self._has_opened = False
        self._new_on_sale = False
        self.exposures: list[Exposure] = []

    def receive(self, ranking: Ranking) -> None:
        """Show this ranking at the person's next visit. Whoever ranks for strangers is ignored."""
        self._rankings[ranking.user_id] = ranking

    def advance(self, to_ms: int) -> Traffic:
        """Let the simulated clock run to `to_ms` and return what happened meanwhile."""
        traffic = Traffic(arrivals=self._arrivals(to_ms))
        expected = self._visits_per_ms * (to_ms - self.now_ms)
        count = min(int(self._rng.poisson(expected)), int(np.count_nonzero(self._visitors.activity)))
        # Without replacement: one visit per person and step keeps every person's events in order.
        who = self._rng.choice(len(self._visitors), size=count, replace=False, p=self._visitors.activity)
        starts = np.sort(self._rng.uniform(self.now_ms, to_ms, count))
        events: list[tuple[int, ClickstreamEvent]] = []
        for visitor, start in zip(who.tolist(), starts.tolist(), strict=True):
            events += self._visit(visitor, start, before_ms=to_ms)
        events.sort(key=lambda pair: pair[0])  # stable: events of the same millisecond keep their order
        traffic.events = [event for _, event in events]
        self.now_ms = to_ms
        return traffic

    def _arrivals(self, to_ms: int) -> list[CatalogItem]:
        """Catalogue records due: everything at the opening, the new products one step before their first visit."""
        due: list[CatalogItem] = []
        is_new = self._catalogue.is_new
        if not self._has_opened:
            self._has_opened = True
            due += [item for item, new in zip(self._catalogue.items, is_new, strict=True) if not new]
        if not self._new_on_sale and self._visitors.has_new_items(to_ms):
            self._new_on_sale = True
            due += [item for item, new in zip(self._catalogue.items, is_new, strict=True) if new]
        return due

    def _visit(self, visitor: int, start_ms: float, *, before_ms: int) -> list[tuple[int, ClickstreamEvent]]:
        user_id = self._visitors.ids[visitor]
        number = int(self._visits[visitor])
        visit = _Visit(
            visitor=visitor,
            user_id=user_id,
            session_id=f"{user_id}-{number}",
            clock_ms=start_ms,
            end_ms=before_ms - 1,
        )
        utility = self._visitors.utility(visitor, int(start_ms))
        shown, clicked = self._home_page(visit, utility)
        viewed = self._browse(visit, utility)
        found = [*(shown[place] for place in clicked), *viewed]
        carted, bought = self._checkout(visit, found)
        self._visits[visitor] += 1
        self._observer(
            ListOutcome(
                visitor=visitor,
                shown=tuple(shown),
                clicked=tuple(clicked),
                carted=tuple(place for number, place in enumerate(clicked) if number in carted),
                bought=tuple(place for number, place in enumerate(clicked) if number in bought),
                is_buyer=bool(bought),
                viewed=tuple(viewed),
                utility=utility,
            )
        )
        return visit.events

    def _checkout(self, visit: _Visit, found: Sequence[int]) -> tuple[set[int], set[int]]:
        """Put products into the cart and buy them; returns which of `found`, by number, went how far."""
        carted, bought = set[int](), set[int]()
        for number, item in enumerate(found):
            cart, purchase = self._conversions.chances(visit.visitor, item)
            if self._rng.random() < cart:
                carted.add(number)
                self._record(visit, item, "cart")
                if self._rng.random() < purchase:
                    bought.add(number)
                    self._record(visit, item, "purchase")
                    self._visitors.owned[visit.visitor, item] = True
                    self._sales[item] += 1
        return carted, bought

    def _home_page(self, visit: _Visit, utility: NDArray[np.float64]) -> tuple[Sequence[int], list[int]]:
        """Show a list, record what was looked at, and return it with the places clicked."""
        ranking = None if self._visitors.is_control[visit.visitor] else self._rankings.get(visit.user_id)
        if ranking is None:
            shown, reasons = self._bestsellers(), None
        else:
            known = [place for place in ranking.items if place.item_id in self._index_of][: self._places]
            shown = [self._index_of[place.item_id] for place in known]
            reasons = [place.reason for place in known]
        wanted = click_chances(utility)
        clicked: list[int] = []
        ranking_id = ranking.ranking_id if ranking else None
        for position, item in enumerate(shown):
            self._record(visit, item, "impression", ranking_id=ranking_id, position=position)
            if self._rng.random() < ATTENTION_DECAY**position * wanted[item]:
                clicked.append(position)
        for position in clicked:
            self._record(visit, shown[position], "click", ranking_id=ranking_id, position=position)
        self.exposures.append(
            Exposure(
                visitor=visit.visitor,
                is_control=bool(self._visitors.is_control[visit.visitor]),
                visit=int(self._visits[visit.visitor]),
                at_ms=int(visit.clock_ms),
                shown=len(shown),
                clicks=len(clicked),
                model_version=ranking.model_version if ranking else None,
                reasons=tuple(reasons[position] for position in clicked) if reasons else (),
            )
        )
        return shown, clicked

    def _browse(self, visit: _Visit, utility: NDArray[np.float64]) -> list[int]:
        """Look at products out of one's own interest, often at a companion of the one before."""
        odds = np.exp(utility - utility.max())
        odds /= odds.sum()
        item = int(self._rng.choice(len(odds), p=odds))
        viewed = [item]
        while self._rng.random() < GO_ON_CHANCE:
            item = (
                int(self._catalogue.companion[item])
                if self._rng.random() < COMPANION_CHANCE
                else int(self._rng.choice(len(odds), p=odds))
            )
            viewed.append(item)
        for item in viewed:
            self._record(visit, item, "view")
        return viewed

    def _bestsellers(self) -> Sequence[int]:
        on_sale = ~self._catalogue.is_new if not self._new_on_sale else np.ones(len(self._catalogue), dtype=np.bool_)
        sales = np.where(on_sale, self._sales, -1.0)
        best: list[int] = np.argsort(-sales, kind="stable")[: self._places].tolist()
        return best

    def _record(
        self, visit: _Visit, item: int, event_type: str, *, ranking_id: str | None = None, position: int | None = None
    ) -> None:
        if event_type != "impression":  # a page shows all its places at once
            visit.clock_ms += float(self._rng.exponential(STEP_MS))
        at_ms = min(int(visit.clock_ms), visit.end_ms)
        record = self._catalogue.items[item]
        sold = event_type in {"cart", "purchase"}
        self._events_made += 1
        event = ClickstreamEvent(
            event_id=f"shop-{self._seed}-{self._events_made}",
            user_id=visit.user_id,
            item_id=record.item_id,
            event_type=event_type,
            event_time=datetime.fromtimestamp(at_ms / 1000, tz=UTC),
            session_id=visit.session_id,
            ranking_id=ranking_id,
            position=position,
            price=record.price if sold else None,
            quantity=1.0 if sold else None,
        )
        visit.events.append((at_ms, event))


def click_chances(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance that a visitor clicks each product once looked at: highest, and equal, for the ten wanted most.

    >>> chances = click_chances(np.log(np.array([4.0] * 10 + [2.0, 1.0])))
    >>> chances.round(2).tolist()[9:]
    [0.4, 0.2, 0.1]
    """
    tenth = np.partition(utility, -10)[-10]
    chances: NDArray[np.float64] = CLICK_LIMIT * np.exp(np.minimum(utility - tenth, 0.0))
    return chances
