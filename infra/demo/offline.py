"""The simulated shop without Kafka: visits to learn from, with the chances that were behind them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infra.demo.catalogue import Catalogue, write_catalogue
from infra.demo.conversions import Discerning, browsing_chance
from infra.demo.shop import ATTENTION_DECAY, ListOutcome, Shop, click_chances
from infra.demo.visitors import Visitors
from learners.multitask import Visits
from streams.events import RankedItem, Ranking

PLACES = 10
_STEP_VISITS = 400  # visits per step of the shop's clock; everybody comes at most once in a step
_MS_PER_VISIT = 1_000.0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The chances behind visits; see `learners.multitask.Chances` for their meaning.

    Args:
        click: [V, K].
        cart: Given a click, [V, K].
        purchase: Given a click, [V, K].
        buyer: [V].
    """

    click: NDArray[np.float64]
    cart: NDArray[np.float64]
    purchase: NDArray[np.float64]
    buyer: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ShopLog:
    """What a shop without Kafka has seen.

    Args:
        catalogue: What it sells; `item_index` in `visits` is the product's index plus one.
        visits: In time order.
        truth: The chances behind them.
    """

    catalogue: Catalogue
    visits: Visits
    truth: Truth

    def part(self, start: int, stop: int) -> tuple[Visits, Truth]:
        """Return the visits from `start` up to `stop`, and their chances."""
        rows = slice(start, stop)
        truth = Truth(**{name: getattr(self.truth, name)[rows] for name in ("click", "cart", "purchase", "buyer")})
        return self.visits.take(torch.arange(start, stop)), truth


class _Recorder:
    """Turns what the shop tells into rows."""

    def __init__(self, catalogue: Catalogue, conversions: Discerning, *, visitors: int, history_length: int) -> None:
        self._catalogue, self._conversions = catalogue, conversions
        self._looked_at: list[list[int]] = [[] for _ in range(visitors)]
        self._length = history_length
        self.rows: dict[str, list[NDArray[np.generic]]] = {}

    def __call__(self, outcome: ListOutcome) -> None:
        history = self._looked_at[outcome.visitor][-self._length :]
        shown, places = np.array(outcome.shown), np.arange(len(outcome.shown))
        cart = self._conversions.cart[outcome.visitor]
        conversion = cart * self._conversions.purchase[outcome.visitor]  # [N]
        click = ATTENTION_DECAY**places * click_chances(outcome.utility)[shown]
        odds = np.exp(outcome.utility - outcome.utility.max())
        browsing = browsing_chance(odds / odds.sum(), self._catalogue.companion, conversion)
        row: dict[str, object] = {
            "histories": np.pad(np.array(history, dtype=np.int64), (0, self._length - len(history))),
            "lengths": len(history),
            "shown": shown + 1,
            "clicked": np.isin(places, outcome.clicked),
            "carted": np.isin(places, outcome.carted),
            "bought": np.isin(places, outcome.bought),
            "buyer": outcome.is_buyer,
            "next_item": outcome.viewed[0] + 1,
            "true_click": click,
            "true_cart": cart[shown],
            "true_purchase": conversion[shown],
            "true_buyer": 1 - np.prod(1 - click * conversion[shown]) * (1 - browsing),
        }
        for name, value in row.items():
            self.rows.setdefault(name, []).append(np.asarray(value))
        self._looked_at[outcome.visitor] += [outcome.shown[place] + 1 for place in outcome.clicked]
        self._looked_at[outcome.visitor] += [item + 1 for item in outcome.viewed]


def simulate(*, visits: int, seed: int, visitors: int = 600, nouns: int = 10, history_length: int = 30) -> ShopLog:
    """Let a shop of discerning visitors run until it has seen so many visits.

    Half of every list is drawn by what the visitor wants, as a learned ranking would choose it, half by chance.

    Args:
        visits: How many; at least 1.
        seed: Same seed, same catalogue, crowd and visits.
        visitors: Size of the crowd.
        nouns: Products per department and style, 1 to 10.
        history_length: L, products looked at before a visit that are kept.
    """
    catalogue = write_catalogue(seed=seed, nouns_per_department=nouns)
    crowd = Visitors(count=visitors, catalogue=catalogue, drifts=(), seed=seed, control_share=0.0)
    conversions = Discerning(catalogue=catalogue, visitors=crowd, seed=seed)
    recorder = _Recorder(catalogue, conversions, visitors=visitors, history_length=history_length)
    shop = Shop(
        catalogue=catalogue,
        visitors=crowd,
        start_ms=0,
        visits_per_ms=1 / _MS_PER_VISIT,
        seed=seed,
        places=PLACES,
        conversions=conversions,
        observer=recorder,
    )
    rng = np.random.default_rng([seed, 5])
    while len(recorder.rows.get("lengths", ())) < visits:
        for visitor in range(visitors):
            shop.receive(_ranking(crowd, catalogue, visitor, shop.now_ms, rng=rng))
        shop.advance(int(shop.now_ms + _STEP_VISITS * _MS_PER_VISIT))
    columns = {name: np.stack(values[:visits]) for name, values in recorder.rows.items()}
    truth = Truth(**{name: columns.pop(f"true_{name}") for name in ("click", "cart", "purchase", "buyer")})
    return ShopLog(
        catalogue=catalogue,
        visits=Visits(**{name: torch.from_numpy(values) for name, values in columns.items()}),
        truth=truth,
    )


def _ranking(crowd: Visitors, catalogue: Catalogue, visitor: int, at_ms: int, *, rng: np.random.Generator) -> Ranking:
    wanted = np.exp(crowd.utility(visitor, at_ms))
    wanted /= wanted.sum()
    on_sale = (wanted > 0) / np.count_nonzero(wanted)
    chosen = rng.choice(len(catalogue), size=PLACES, replace=False, p=(wanted + on_sale) / 2)
    items = tuple(RankedItem(item_id=catalogue.items[item].item_id, score=0.0, reason="offline") for item in chosen)
    return Ranking(
        ranking_id=f"offline-{visitor}-{at_ms}",
        user_id=crowd.ids[visitor],
        model_version=0,
        items=items,
        ranked_at_ms=at_ms,
    )
