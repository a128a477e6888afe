"""Which photos teach and which test."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]
Split = tuple[Indexes, Indexes]

FOLDS = 5


def new_products(shown: Indexes, *, seed: int) -> Iterator[Split]:
    """Yield folds over products: of a tested product no photo was ever learned from.

    >>> shown = np.repeat(np.arange(10), 2)
    >>> splits = list(new_products(shown, seed=0))
    >>> len(splits), any(set(shown[train]) & set(shown[test]) for train, test in splits)
    (5, False)
    """
    order = np.random.default_rng(seed).permutation(np.unique(shown))
    for fold in range(FOLDS):
        tested = np.isin(shown, order[fold::FOLDS])
        yield np.flatnonzero(~tested), np.flatnonzero(tested)


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
