"""Which photos teach and which test."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]
Split = tuple[Indexes, Indexes]

FOLDS = 5


def few_photos(shown: Indexes, *, each: int, seed: int) -> Iterator[Split]:
    """Yield one split: so many photos of each product teach, all others test.

    >>> [(train, test)] = few_photos(np.repeat(np.arange(4), 3), each=1, seed=0)
    >>> len(train), len(test)
    (4, 8)
    """
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(np.flatnonzero(shown == product))[:each] for product in np.unique(shown)])
    yield np.sort(train), np.setdiff1d(np.arange(len(shown)), train)


def known_products(shown: Indexes, *, seed: int) -> Iterator[Split]:
    """Yield folds over photos: about four photos of a tested product were learned from.

    >>> shown = np.repeat(np.arange(3), 5)
    >>> [len(test) for _, test in known_products(shown, seed=0)]
    [3, 3, 3, 3, 3]
    """
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(shown), np.int64)
    for product in np.unique(shown):
        photos = rng.permutation(np.flatnonzero(shown == product))
        fold[photos] = (np.arange(len(photos)) + rng.integers(FOLDS)) % FOLDS
    for number in range(FOLDS):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def unseen_products(
    shown: Indexes, photos: Indexes, products: Indexes, *, rng: np.random.Generator
) -> tuple[Indexes, Indexes, Indexes]:
    """Return photos to learn from, all photos of the products put aside, and about a fifth of those of the others.

    Args:
        shown: Product of each photo.
        photos: Which may be used.
        products: Those put aside.
        rng: Chooses among the photos of the others; one at least of each is learned from.

    >>> shown = np.repeat(np.arange(4), 5)
    >>> train, unseen, seen = unseen_products(shown, np.arange(20), np.array([3]), rng=np.random.default_rng(0))
    >>> len(train), unseen.tolist(), np.bincount(shown[seen]).tolist()
    (12, [15, 16, 17, 18, 19], [1, 1, 1])
    """
    aside = np.isin(shown[photos], products)
    unseen, others = photos[aside], photos[~aside]
    seen: list[int] = []
    for product in np.unique(shown[others]):
        mixed = rng.permutation(others[shown[others] == product])
        tested = int(len(mixed) / FOLDS + rng.random())  # a fifth on average, also of four photos
        seen.extend(mixed[: min(tested, len(mixed) - 1)])
    tests = np.sort(np.array(seen, np.int64))
    return np.setdiff1d(others, tests), unseen, tests
