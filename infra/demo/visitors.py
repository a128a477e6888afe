"""Visitors of the simulated shop: latent tastes, and what planted drift does to them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.demo.catalogue import Catalogue
from infra.demo.drifts import PlantedDrift
from infra.demo.vocabulary import STYLES

FAVOURITE_DEPARTMENTS = (0.6, 0.3)  # shares of a visitor's interest; the rest is spread over all departments
FAVOURITE_STYLE = 0.85
SHIFTED_SHARE = 0.9  # visitors whom the taste shift moves
NEW_DEPARTMENT_INTEREST = 0.55  # share of interest that the new department draws, from those whom it draws at all
NEW_DEPARTMENT_SHARE = 0.8
SEASON_SWING = 1.7  # log units: in season, a thing sells e^1.7 = 5.5 times as much as at neutral times


class Visitors:
    """A crowd with tastes over departments and styles, and a control group that sees no learned rankings.

    Args:
        count: Number of visitors.
        catalogue: What they can look at.
        drifts: Changes to come; each is looked up by event time, so asking about the past gives the past.
        seed: Same seed, same crowd.
        control_share: Probability of a visitor to be in the control group, 0 to 1.
    """

    def __init__(
        self, *, count: int, catalogue: Catalogue, drifts: Sequence[PlantedDrift], seed: int, control_share: float
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        self._catalogue = catalogue
        self._drifts = {drift.kind: drift for drift in drifts}
        self.ids = tuple(f"V{index:05d}" for index in range(count))
        self.activity = rng.gamma(2.0, 1.0, count)  # relative frequency of visits
        self.activity /= self.activity.sum()
        self.is_control = rng.random(count) < control_share
        old = catalogue.departments - 1  # the new department is nobody's favourite yet
        departments = _department_tastes(count, old, rng=rng)
        self._departments = np.pad(departments, ((0, 0), (0, 1)))  # [V, departments]
        self._styles = _style_tastes(count, rng=rng)  # [V, styles]
        self._is_shifted = rng.random(count) < SHIFTED_SHARE
        self._turn = rng.permutation(old)
        self._follows_new = rng.random(count) < NEW_DEPARTMENT_SHARE
        self.owned = np.zeros((count, len(catalogue)), dtype=np.bool_)

    def __len__(self) -> int:
        """Number of visitors."""
        return len(self.ids)

    def tastes(self, visitor: int, at_ms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Interest in departments and in styles at a moment; each sums to 1."""
        departments, styles = self._departments[visitor], self._styles[visitor]
        if self._is_shifted[visitor] and self._progress("taste_shift", at_ms) > 0:
            departments = np.append(departments[:-1][self._turn], 0.0)
            styles = np.roll(styles, 1)
        if self._follows_new[visitor] and self._progress("new_items", at_ms) > 0:
            departments = departments * (1 - NEW_DEPARTMENT_INTEREST)
            departments[-1] = NEW_DEPARTMENT_INTEREST
        return departments, styles

    def utility(self, visitor: int, at_ms: int) -> NDArray[np.float64]:
        """How much a visitor wants each product at a moment, as log odds of looking at it; -inf if it is not on sale.

        What somebody has bought is wanted less.
        """
        catalogue = self._catalogue
        departments, styles = self.tastes(visitor, at_ms)
        season = SEASON_SWING * (2 * self._progress("seasonal_swing", at_ms) - 1)  # winter first, then summer
        with np.errstate(divide="ignore"):  # no interest at all is log 0
            utility: NDArray[np.float64] = (
                np.log(departments)[catalogue.department]
                + np.log(styles)[catalogue.style]
                + catalogue.appeal
                + season * catalogue.season
                - 2.0 * self.owned[visitor]
            )
        if not self.has_new_items(at_ms):
            utility[catalogue.is_new] = -np.inf
        return utility

    def has_new_items(self, at_ms: int) -> bool:
        """True once the new products are on sale; always true where no such drift is planted."""
        return "new_items" not in self._drifts or self._progress("new_items", at_ms) > 0

    def _progress(self, kind: str, at_ms: int) -> float:
        drift = self._drifts.get(kind)  # type: ignore[call-overload]
        return drift.progress(at_ms) if drift else 0.0


def _department_tastes(count: int, departments: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two favourites for everyone, drawn so that some departments are more popular than others."""
    popularity = 1.0 / np.arange(1, departments + 1) ** 0.5
    popularity = rng.permutation(popularity / popularity.sum())
    tastes = np.full((count, departments), (1 - sum(FAVOURITE_DEPARTMENTS)) / departments)
    for row in tastes:
        favourites = rng.choice(departments, size=len(FAVOURITE_DEPARTMENTS), replace=False, p=popularity)
        row[favourites] += FAVOURITE_DEPARTMENTS
    return tastes


def _style_tastes(count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """One favourite style for everyone."""
    tastes = np.full((count, len(STYLES)), (1 - FAVOURITE_STYLE) / (len(STYLES) - 1))
    tastes[np.arange(count), rng.integers(len(STYLES), size=count)] = FAVOURITE_STYLE
    return tastes
