"""The published per-update figures that ours stand beside, where the protocol's data brings them along."""

from dataclasses import dataclass
from pathlib import Path

MEASURES = {"R@20": "recall_20", "MRR@20": "mrr_20"}


@dataclass(frozen=True, slots=True)
class Published:
    """One published curve.

    Args:
        method: Its name in the paper.
        measure: `recall_20` or `mrr_20`.
        values: Percent, one per update.
    """

    method: str
    measure: str
    values: tuple[float, ...]


def read_published(sessions: Path) -> list[Published]:
    """Return the curves in `published_curves.txt` beside a sessions file; none where there is no such file.

    A line is: data set, measure, method, number of updates, that many values, the word mean, the mean.
    """
    path = sessions.parent / "published_curves.txt"
    return parse(path.read_text(encoding="utf-8")) if path.is_file() else []


def parse(text: str) -> list[Published]:
    """Return the curves of a text.

    >>> parse("DIGI R@20 ADER 2 49.45 50.80 mean 50.1")
    [Published(method='ADER', measure='recall_20', values=(49.45, 50.8))]
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 5 or words[1] not in MEASURES:
            continue
        values = tuple(float(word) for word in words[4 : 4 + int(words[3])])
        found.append(Published(words[2], MEASURES[words[1]], values))
    return found
