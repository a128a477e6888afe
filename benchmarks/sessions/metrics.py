"""The measures of the protocol: the place of the truth among ALL items seen so far, ties against us."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]

UNRANKED = 2**31  # the place of a target that was not among an expert's opinions: no measure counts it
NAMES = ("recall_20", "mrr_20", "recall_10", "mrr_10")


def ranks_of(scores: npt.NDArray[np.float32], targets: Ranks) -> Ranks:
    """Return each target's place among all items, 1 is best; equal scores count as better than it.

    Args:
        scores: Of every item that may be clicked, [Q, N].
        targets: Columns of `scores`, [Q].

    >>> ranks_of(np.array([[0.1, 0.7, 0.7], [0.3, 0.2, 0.1]], np.float32), np.array([1, 0])).tolist()
    [2, 1]
    """
    own = scores[np.arange(len(scores)), targets]
    places: Ranks = (scores >= own[:, None]).sum(axis=1)
    return places


def measure(ranks: Ranks) -> dict[str, float]:
    """Return Recall@20, MRR@20, Recall@10 and MRR@10 in percent; 0 where nothing was asked.

    >>> {name: round(value, 2) for name, value in measure(np.array([1, 4, 15, 500])).items()}
    {'recall_20': 75.0, 'mrr_20': 32.92, 'recall_10': 50.0, 'mrr_10': 31.25}
    """
    if not len(ranks):
        return dict.fromkeys(NAMES, 0.0)
    found = {}
    for top in (20, 10):
        hit = ranks <= top
        found[f"recall_{top}"] = 100 * float(hit.mean())
        found[f"mrr_{top}"] = 100 * float(np.where(hit, 1 / ranks, 0).mean())
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one expert did on one period.

    Args:
        ranks: Place of every target, [Q].
        new: Which targets are items first clicked in the period before, bool [Q].
    """

    ranks: Ranks
    new: npt.NDArray[np.bool_]

    def figures(self) -> dict[str, float | None]:
        """Return the measures, and Recall@20 of new items: None where none was asked for."""
        new = self.ranks[self.new]
        return {**measure(self.ranks), "new_item_recall_20": measure(new)["recall_20"] if len(new) else None}
