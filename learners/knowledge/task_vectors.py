"""A task as a vector: what its inputs look like to the encoder, and how its labels are distributed.

Two tasks whose vectors point the same way speak of similar things and are similarly hard; knowledge of one is then the
likeliest to help the other. It is a guess, which a quick validation has to confirm.
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

STATISTICS = ("entropy", "first", "first_ten", "gini", "labels", "examples")
_WEIGHT = 0.5  # of a statistic against the unit length of the mean vector: alike texts first, alike labels second
_MOST_LABELS_LOG10, _MOST_EXAMPLES_LOG10 = 7.0, 9.0


def task_vector(vectors: Floats, counts: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]) -> Floats:
    """Return the vector of a task, float32 [T + 6]: the mean encoder vector at length 1, then label statistics.

    Args:
        vectors: Encoder vectors of the inputs (for a sequence task: of the items), [n, T].
        counts: How often each input was met, [n].
        labels: How often each label was met; for a sequence task the labels are the items.

    >>> texts = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    >>> task_vector(texts, np.array([3, 0]), np.array([2, 2])).tolist()[:6]
    [1.0, 0.0, 0.5, 0.25, 0.5, 0.0]
    """
    mean = counts.astype(np.float64) @ vectors.astype(np.float64)
    length = float(np.linalg.norm(mean))
    unit = mean / length if length else mean
    return np.concatenate([unit, _WEIGHT * label_statistics(labels)]).astype(np.float32)


def label_statistics(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return six numbers in [0, 1], in the order of `STATISTICS`.

    Entropy over its maximum; share of the most frequent label and of the ten most frequent; Gini coefficient; the
    logarithms of how many labels and examples there are, over those of ten million and a billion.

    Args:
        counts: How often each label was met; labels that were never met do not count.

    >>> label_statistics(np.array([5, 5, 0])).round(3).tolist()
    [1.0, 0.5, 1.0, 0.0, 0.043, 0.111]
    """
    met = np.sort(counts[counts > 0].astype(np.float64))[::-1]
    if not len(met):
        return np.zeros(len(STATISTICS))
    total = met.sum()
    shares = met / total
    entropy = float(-(shares * np.log(shares)).sum()) / math.log(len(met)) if len(met) > 1 else 0.0
    ascending = shares[::-1]
    ranks = np.arange(1, len(met) + 1)
    gini = float((2 * ranks - len(met) - 1) @ ascending) / len(met)
    statistics: npt.NDArray[np.float64] = np.clip(
        [
            entropy,
            shares[0],
            shares[:10].sum(),
            gini,
            math.log10(len(met)) / _MOST_LABELS_LOG10,
            math.log10(total) / _MOST_EXAMPLES_LOG10,
        ],
        0.0,
        1.0,
    )
    return statistics
