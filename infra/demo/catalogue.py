"""The simulated shop's catalogue: products with text, written by a seeded generator that knows what they really are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.demo.vocabulary import BRANDS, DEPARTMENTS, NEW_DEPARTMENT, STYLES, Department, Style
from streams.events import CatalogItem


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Products and the truth about them that only the simulator knows. All arrays have one entry per product.

    Args:
        items: The catalogue records, as they go to `catalog.items`.
        department: Index into `vocabulary.DEPARTMENTS` (the new department comes last).
        style: Index into `vocabulary.STYLES`.
        appeal: Log of how much better a product sells than its neighbours, whatever the visitor.
        season: -1 (winter) to +1 (summer).
        companion: Index of the product that visitors look at next more often than by chance.
        is_new: True for products that arrive in the middle of the demo.
    """

    items: tuple[CatalogItem, ...]
    department: NDArray[np.int64]
    style: NDArray[np.int64]
    appeal: NDArray[np.float64]
    season: NDArray[np.float64]
    companion: NDArray[np.int64]
    is_new: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of products, those included that have not arrived yet."""
        return len(self.items)

    @property
    def departments(self) -> int:
        """Number of departments, the new one included."""
        return len(DEPARTMENTS) + 1


def write_catalogue(*, seed: int, nouns_per_department: int = 10) -> Catalogue:
    """Write the shop's products: every department sells every noun in every style.

    Args:
        seed: Same seed, same catalogue.
        nouns_per_department: Products per department and style; 1 to 10. Ten give 520 products, 40 of them new.

    Raises:
        ValueError: If `nouns_per_department` is outside 1 to 10.

    >>> catalogue = write_catalogue(seed=0)
    >>> len(catalogue), int(catalogue.is_new.sum())
    (520, 40)
    """
    if not 1 <= nouns_per_department <= 10:
        raise ValueError(f"nouns_per_department is {nouns_per_department}; expected 1 to 10")
    rng = np.random.default_rng([seed, 1])
    items: list[CatalogItem] = []
    kinds: list[tuple[int, int]] = []
    departments = (*DEPARTMENTS, NEW_DEPARTMENT)
    for d, department in enumerate(departments):
        for s, style in enumerate(STYLES):
            for noun in department.nouns[:nouns_per_department]:
                items.append(_write_item(f"P{len(items):04d}", department=department, style=style, noun=noun, rng=rng))
                kinds.append((d, s))
    department_of, style_of = (np.array(column, dtype=np.int64) for column in zip(*kinds, strict=True))
    return Catalogue(
        items=tuple(items),
        department=department_of,
        style=style_of,
        appeal=rng.normal(0.0, 0.6, len(items)),
        season=np.array([float(departments[d].season) for d, _ in kinds]),
        companion=_companions(department_of, rng=rng),
        is_new=department_of == len(DEPARTMENTS),
    )


def _write_item(
    item_id: str, *, department: Department, style: Style, noun: str, rng: np.random.Generator
) -> CatalogItem:
    adjective, second = rng.choice(style.adjectives, size=2, replace=False)
    material = rng.choice(style.materials)
    brand = BRANDS[int(rng.integers(len(BRANDS)))]
    return CatalogItem(
        item_id=item_id,
        title=f"{adjective} {noun}",
        description=(
            f"A {second.lower()} {noun.lower()} in {material}, {department.use}. "
            f"{style.name.capitalize()} {department.name.lower()} by {brand}."
        ),
        category=(department.aisle, department.name),
        brand=brand,
        price=round(float(np.exp(rng.normal(3.0, 0.6))), 2),
        attributes={"style": style.name, "material": str(material)},
    )


def _companions(department: NDArray[np.int64], *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give every product one other product of its department, in one ring per department."""
    companion = np.arange(len(department))
    for d in np.unique(department):
        ring = rng.permutation(np.flatnonzero(department == d))
        companion[ring] = np.roll(ring, -1)
    return companion
