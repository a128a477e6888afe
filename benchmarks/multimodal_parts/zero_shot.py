"""Products of which no photo was ever learned from: generalized zero-shot matching.

A model that learned from photos of some products sees those everywhere. Therefore one number is taken from their
scores (calibrated stacking, Chao et al., ECCV 2016). It is chosen inside the training photos, where some products are
put aside as if they were new. The figures are those of Xian et al. (CVPR 2017): top-1 on photos of unseen products, on
other photos of seen ones, and their harmonic mean; beside them top-1 where only unseen products may be the answer, and
the area under the curve of the first over the second (AUSUC), for which no number needs to be chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.multimodal_parts.matching import Indexes, MatchConfig, Matcher, Material
from benchmarks.multimodal_parts.splits import FOLDS, unseen_products

Floats = npt.NDArray[np.float64]

PENALTIES = np.concatenate([[-2.0], np.linspace(-0.5, 1.0, 76), [2.0]])  # of cosines: at the ends one side has it all
NONE, ONLY_UNSEEN = int(np.abs(PENALTIES).argmin()), len(PENALTIES) - 1
FIGURES = ("unseen", "seen", "harmonic", "area", "among_unseen", "unseen_uncalibrated")
_SMOOTH = 5  # neighbouring penalties whose mean is compared: a quarter of the products is few
_RESAMPLES = 2_000


@dataclass(slots=True)
class Outcomes:
    """Of one row, what came of each test.

    Args:
        unseen: Per test of photos of new products: the photos, and whether each was right, by penalty [n, G].
        seen: The same for other photos of products that were learned.
        chosen: Which penalty each fold chose.
    """

    unseen: list[tuple[Indexes, Floats]] = field(default_factory=list)
    seen: list[tuple[Indexes, Floats]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)


def ask_unseen(
    material: Material,
    rows: Mapping[str, Sequence[str]],
    gains: Mapping[str, Sequence[str]],
    *,
    seeds: Sequence[int],
    config: MatchConfig,
) -> dict[str, Any]:
    """Return each row's figures and each gain's, with 95% intervals by bootstrap over products.

    Args:
        material: As the encoders give it.
        rows: Descriptions that each may use.
        gains: Rows, and those that each is compared with.
        seeds: Each tests every photo as one of a new product, in five folds over products.
        config: How models learn.
    """
    shown = material.shown.numpy()
    tests: dict[str, Outcomes] = {row: Outcomes() for row in rows}
    for seed in seeds:
        for (train, unseen, seen), inner in _folds(shown, seed):
            ready, ready_inside = (material.prepared(each, width=config.components) for each in (train, inner[0]))
            for row, names in rows.items():
                chosen = penalty(*_right(ready_inside, *inner, names=names, config=config, seed=seed))
                outer = _right(ready, train, unseen, seen, names=names, config=config, seed=seed)
                tests[row].chosen.append(chosen)
                tests[row].unseen.append((unseen, outer[0]))
                tests[row].seen.append((seen, outer[1]))
        print(f"products without a photo, seed {seed}: done", flush=True)
    draws = {row: figures(found, shown) for row, found in tests.items()}
    return {
        "rows": {
            row: {name: _interval(values) for name, values in draws[row].items()}
            | {"penalty": float(PENALTIES[tests[row].chosen].mean())}
            for row in rows
        },
        "gains": {
            f"{both} - {row}": {name: _interval(draws[both][name] - draws[row][name]) for name in FIGURES}
            for both, alone in gains.items()
            for row in alone
        },
    }


def penalty(unseen: Floats, seen: Floats) -> int:
    """Return which of `PENALTIES` has the best harmonic mean, from right answers [n, G] and [m, G].

    >>> right = np.zeros((1, len(PENALTIES)))
    >>> right[:, 30:40] = 1
    >>> penalty(right, np.ones_like(right)) in range(30, 40)
    True
    """
    found = np.convolve(harmonic(unseen.mean(axis=0), seen.mean(axis=0)), np.ones(_SMOOTH), mode="same")
    return int(found.argmax())


def harmonic(first: Floats, second: Floats) -> Floats:
    """Return the harmonic mean, 0 where both are.

    >>> harmonic(np.array([0.5, 0.0]), np.array([1.0, 0.0])).round(3).tolist()
    [0.667, 0.0]
    """
    both = first + second
    return np.divide(2 * first * second, both, out=np.zeros_like(both), where=both > 0)


def area(unseen: Floats, seen: Floats) -> Floats:
    """Return the area under `unseen` over `seen`, [...], from curves [..., G] in the order of `PENALTIES`.

    >>> area(np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0])).item()
    1.0
    """
    steps = seen[..., :-1] - seen[..., 1:]
    found: Floats = (steps * (unseen[..., :-1] + unseen[..., 1:]) / 2).sum(axis=-1)
    return found


def figures(tests: Outcomes, shown: Indexes) -> dict[str, Floats]:
    """Return each of `FIGURES` as measured and for every resample of the products, [1 + resamples]."""
    products = shown.max() + 1
    rng = np.random.default_rng(0)  # the same resamples for every row, so that rows can be compared
    present = np.unique(shown)
    drawn = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), size=_RESAMPLES)
    weights = np.zeros((1 + _RESAMPLES, products))
    weights[:, present] = np.concatenate([np.ones((1, len(present)), np.int64), drawn])
    curves = {kind: _curve(getattr(tests, kind), shown, weights) for kind in ("unseen", "seen")}
    at = {kind: _curve(_at(getattr(tests, kind), tests.chosen), shown, weights)[:, 0] for kind in ("unseen", "seen")}
    return {
        "unseen": at["unseen"],
        "seen": at["seen"],
        "harmonic": harmonic(at["unseen"], at["seen"]),
        "area": area(curves["unseen"], curves["seen"]),
        "among_unseen": curves["unseen"][:, ONLY_UNSEEN],
        "unseen_uncalibrated": curves["unseen"][:, NONE],
    }


def _folds(
    shown: Indexes, seed: int
) -> Iterator[tuple[tuple[Indexes, Indexes, Indexes], tuple[Indexes, Indexes, Indexes]]]:
    """Yield what a fold learns from and is tested by, and the same inside what it learns from."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(shown))
    for fold in range(FOLDS):
        outer = unseen_products(shown, np.arange(len(shown)), order[fold::FOLDS], rng=rng)
        learned = rng.permutation(np.unique(shown[outer[0]]))
        yield outer, unseen_products(shown, outer[0], learned[: len(learned) // 4], rng=rng)


def _right(
    material: Material,
    train: Indexes,
    *tested: Indexes,
    names: Sequence[str],
    config: MatchConfig,
    seed: int,
) -> list[Floats]:
    """Learn from photos that the material is prepared for; of each group of others, who is right by penalty [n, G]."""
    matcher = Matcher(material, train, names=names, config=config, seed=seed)
    seen = np.isin(np.arange(len(material.studio)), material.shown[train])
    answers = []
    for photos in tested:
        scores = matcher.scores(photos).numpy()
        best = (scores[..., None] - PENALTIES * seen[:, None]).argmax(axis=1)
        answers.append((best == material.shown[photos].numpy()[:, None]).astype(float))
    return answers


def _at(tests: Sequence[tuple[Indexes, Floats]], chosen: Sequence[int]) -> list[tuple[Indexes, Floats]]:
    return [(photos, right[:, [column]]) for (photos, right), column in zip(tests, chosen, strict=True)]


def _curve(tests: Sequence[tuple[Indexes, Floats]], shown: Indexes, weights: Floats) -> Floats:
    """Return the weighted share of right answers, [W, G], from weights of products [W, N]."""
    photos = np.concatenate([photos for photos, _ in tests])
    right = np.concatenate([right for _, right in tests])
    sums = np.zeros((weights.shape[1], right.shape[1]))
    np.add.at(sums, shown[photos], right)
    counts = np.bincount(shown[photos], minlength=len(sums))
    found: Floats = weights @ sums / (weights @ counts)[:, None]
    return found


def _interval(values: Floats) -> dict[str, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
