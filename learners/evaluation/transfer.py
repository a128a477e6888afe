"""What each release knows of each stretch of the stream: forgetting, and transfer backward and forward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.evaluation.scorecard import Case
from learners.quality.metrics import TOP
from learners.releases.release import LoadedRelease

Floats = npt.NDArray[np.float64]

MOST_RELEASES = 12
MOST_CASES = 200  # of each stretch


@dataclass(frozen=True, slots=True)
class Transfer:
    """NDCG@10 of releases on stretches of the stream.

    Args:
        matrix: [R, R + 1]; stretch s ends where release s was trained, and the last one is after all of them.
        bounds: Number of the last interaction of each stretch, R + 1 of them.
        chance: NDCG@10 of a random ranking.
    """

    matrix: Floats
    bounds: tuple[int, ...]
    chance: float

    @property
    def forgetting(self) -> float:
        """How far the last release is below the best one on each earlier stretch, on average; below 0: never worse.

        Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 2.2.
        """
        last = len(self.matrix) - 1
        if last < 1:
            return float("nan")
        best = [self.matrix[stretch:last, stretch].max() for stretch in range(last)]
        return float(np.nanmean(np.array(best) - self.matrix[last, :last]))

    @property
    def backward(self) -> float:
        """How far the last release is above the one that had just learned each earlier stretch, on average.

        Source: Lopez-Paz & Ranzato, "Gradient Episodic Memory", NeurIPS 2017, equation 3; so for `forward`, equation 4.
        """
        last = len(self.matrix) - 1
        if last < 1:
            return float("nan")
        return float(np.nanmean(self.matrix[last, :last] - np.diag(self.matrix)[:last]))

    @property
    def forward(self) -> float:
        """How far each release is above chance on the stretch that follows it, on average."""
        ahead = [self.matrix[release, release + 1] for release in range(len(self.matrix))]
        return float(np.nanmean(ahead)) - self.chance if ahead else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        figures = {name: getattr(self, name) for name in ("forgetting", "backward", "forward", "chance")}
        return {**figures, "matrix": self.matrix.tolist(), "bounds": list(self.bounds)}


def transfer(
    releases: Sequence[tuple[int, Callable[[], LoadedRelease]]],
    cases: Sequence[Case],
    *,
    interactions: int,
    seed: int,
) -> Transfer | None:
    """Rank moments of every stretch with every release; None without releases.

    Args:
        releases: For each, how many interactions had come when it was trained, and how to load it; oldest first. Of
            more than a dozen, a dozen are taken, the first and the last among them.
        cases: Moments of the whole stream; of each stretch a random few are ranked.
        interactions: Length of the stream.
        seed: Source of the choice.
    """
    if not releases:
        return None
    chosen = np.unique(np.linspace(0, len(releases) - 1, min(MOST_RELEASES, len(releases))).round().astype(int))
    taken = [releases[place] for place in chosen]
    bounds = (*(trained for trained, _ in taken), interactions)
    stretches = _stretches(cases, bounds, rng=np.random.default_rng(seed))
    rows, items = [], 1
    for _, load in taken:
        release = load()
        items = len(release.item_ids)
        rows.append([ndcg(release, stretch) for stretch in stretches])
    gains = 1 / np.log2(np.arange(1, TOP + 1) + 1)
    return Transfer(np.array(rows), bounds, float(gains[: items - 1].sum()) / max(1, items - 1))


def ndcg(release: LoadedRelease, cases: Sequence[Case]) -> float:
    """Return a release's NDCG@10 among all of its items; one it does not know it has not found. NaN without cases."""
    if not cases:
        return float("nan")
    scores = release.encode_users([case.history for case in cases]) @ release.item_matrix.T
    scores[:, 0] = -np.inf
    gains = []
    for row, case in zip(scores, cases, strict=True):
        rank = 1 + int((row > row[case.target]).sum()) if case.target < len(row) else TOP + 1
        gains.append(float(1 / np.log2(rank + 1)) if rank <= TOP else 0.0)
    return float(np.mean(gains))


def _stretches(cases: Sequence[Case], bounds: tuple[int, ...], *, rng: np.random.Generator) -> list[list[Case]]:
    found: list[list[Case]] = [[] for _ in bounds]
    for case in cases:
        found[min(int(np.searchsorted(bounds, case.interaction)), len(bounds) - 1)].append(case)
    return [[part[place] for place in sorted(rng.permutation(len(part))[:MOST_CASES])] for part in found]
