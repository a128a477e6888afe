"""Finished contenders on disk, each whole or not at all, so that a stopped benchmark goes on where it was."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prequential_parts.log import write_arrays
from benchmarks.prequential_parts.protocol import Outcome

_RANKS = "ranks_"


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome as one .npz."""
    said = json.dumps({"train_s": outcome.train_s, "cpu_s": outcome.cpu_s, "facts": outcome.facts})
    write_arrays(path, said=np.array(said), **{_RANKS + expert: ranks for expert, ranks in outcome.ranks.items()})


def load_outcome(path: Path) -> Outcome:
    """Read what `save_outcome` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        ranks = {name.removeprefix(_RANKS): stored[name] for name in stored.files if name.startswith(_RANKS)}
        return Outcome(ranks=ranks, **json.loads(str(stored["said"])))


def digest(settings: Any) -> str:
    """Return a few letters that tell settings apart; anything JSON-able.

    >>> digest({"factors": 32}) == digest({"factors": 32}), digest({"factors": 32}) == digest({"factors": 64})
    (True, False)
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


class Records:
    """The outcomes under one folder, by the key of what made them.

    Args:
        folder: Created when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once(self, key: str, make: Callable[[], Outcome]) -> tuple[Outcome, bool]:
        """Return the outcome of a key, made only if it is not there yet, and whether it was there."""
        path = self.folder / f"{key}.npz"
        if path.exists():
            return load_outcome(path), True
        outcome = make()
        save_outcome(path, outcome)
        return outcome, False
