"""How often what was looked at is bought: chances that only the simulator knows."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infra.demo.catalogue import Catalogue
from infra.demo.visitors import Visitors

CART_CHANCE = 0.3
PURCHASE_CHANCE = 0.5
COMPANION_CHANCE = 0.3
GO_ON_CHANCE = 0.55  # chance to look at one more product
_BROWSE_STEPS = 40  # 0.55 to the 40th power is nothing


class Conversions(Protocol):
    """Who buys what was clicked or looked at."""

    def chances(self, visitor: int, item: int) -> tuple[float, float]:
        """Return the chance that it goes into the cart, and that it is then bought."""
        ...


class SameForAll:
    """Everybody buys everything alike."""

    def chances(self, visitor: int, item: int) -> tuple[float, float]:  # noqa: ARG002 - a null object
        """Return the chance that it goes into the cart, and that it is then bought."""
        return CART_CHANCE, PURCHASE_CHANCE


class Discerning:
    """People buy what interests them, is good and is not too dear for them; goodness and price tempt nobody to click.

    About one click in ten ends in a purchase.

    Args:
        catalogue: What is sold.
        visitors: Who comes.
        seed: Same seed, same chances.
    """

    def __init__(self, *, catalogue: Catalogue, visitors: Visitors, seed: int) -> None:
        rng = np.random.default_rng([seed, 4])
        prices = np.log([item.price or 1.0 for item in catalogue.items])
        dearness = (prices - prices.mean()) / prices.std()  # [N]
        goodness = rng.normal(0.0, 1.0, len(catalogue))  # [N]
        thrift = rng.gamma(2.0, 0.4, len(visitors))  # [V], 0.8 on average
        tastes = [visitors.tastes(visitor, 0) for visitor in range(len(visitors))]
        with np.errstate(divide="ignore"):  # what interests nobody at all is never bought
            departments = np.log(np.stack([department for department, _ in tastes]))[:, catalogue.department]  # [V, N]
            styles = np.log(np.stack([style for _, style in tastes]))[:, catalogue.style]  # [V, N]
        wish = 0.5 * departments + 0.7 * styles + 0.6 * goodness - 0.6 * thrift[:, None] * dearness
        self.cart = _sigmoid(wish - 0.4)
        self.purchase = _sigmoid(0.5 * wish - 0.4)

    def chances(self, visitor: int, item: int) -> tuple[float, float]:
        """Return the chance that it goes into the cart, and that it is then bought."""
        return float(self.cart[visitor, item]), float(self.purchase[visitor, item])


def browsing_chance(odds: NDArray[np.float64], companion: NDArray[np.int64], conversion: NDArray[np.float64]) -> float:
    """Return the chance that a visitor buys something while browsing, exactly.

    Args:
        odds: Chance of each product to be looked at next, if not a companion; sums to 1, [N].
        companion: What is often looked at next, [N].
        conversion: Chance of each product to be bought once looked at, [N].

    >>> browsing_chance(np.array([1.0]), np.array([0]), np.array([0.5]))  # .5 + .55 * .5 * (the same again)
    0.6896551724137...
    """
    nothing = np.ones(len(odds))  # chance to buy nothing from here on, if this product is looked at now
    for _ in range(_BROWSE_STEPS):
        following = COMPANION_CHANCE * nothing[companion] + (1 - COMPANION_CHANCE) * float(odds @ nothing)
        nothing = (1 - conversion) * (1 - GO_ON_CHANCE + GO_ON_CHANCE * following)
    return 1.0 - float(odds @ nothing)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return chances
