"""How good chances are: how well they tell a yes from a no, and how often the answer is right."""

import numpy as np
import numpy.typing as npt


def auc(chances: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a yes was given more than a no (half for equals); nan without both kinds.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    >>> auc(np.zeros(4), np.array([False, True, True, False]))
    0.5

    Source: Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
    """
    said, happened = chances.ravel(), outcomes.ravel().astype(bool)
    yes, no = int(happened.sum()), int((~happened).sum())
    if not yes or not no:
        return float("nan")
    _, places, counts = np.unique(said, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equals
    return float((ranks[places][happened].sum() - yes * (yes + 1) / 2) / (yes * no))


def classification(answers: npt.NDArray[np.bool_], outcomes: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return accuracy, precision, recall and F1; a share of nothing is 0.

    >>> classification(np.array([True, True, False]), np.array([True, False, False]))["f1"]
    0.6666666666666666
    """
    right, called, real = (float(kind.sum()) for kind in (answers & outcomes, answers, outcomes))
    return {
        "accuracy": float((answers == outcomes).mean()) if len(outcomes) else 0.0,
        "precision": right / called if called else 0.0,
        "recall": right / real if real else 0.0,
        "f1": 2 * right / (called + real) if called + real else 0.0,
    }
