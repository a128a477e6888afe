"""Pictures of the catalogue's items, looked at by one thread and taken in by another."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from learners.items.image import PictureVectors
from learners.items.picture import RejectedPicture

log = structlog.get_logger(__name__)

Floats = npt.NDArray[np.float32]

_LOGGED = 3  # pictures of each reason that are named; the others are only counted


class Wanted(NamedTuple):
    """A picture to be looked at."""

    item_index: int
    source: str  # where it is
    anew: bool = False  # the shop said so again: what is on the network may have changed


class Gallery:
    """Vectors of items' pictures between the thread that makes them and the thread that wants them.

    Args:
        pictures: Reads, encodes, remembers.
    """

    def __init__(self, pictures: PictureVectors) -> None:
        self._pictures = pictures
        self._ready: dict[int, tuple[str, Floats]] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()  # `encoded`, and the reasons of those that were not, since the start

    @property
    def width(self) -> int:
        """V."""
        return self._pictures.width

    def encode(self, wanted: Sequence[Wanted]) -> None:
        """Look at pictures; one that cannot be used is counted, and leaves its item without one."""
        for item_index, source, anew in wanted:
            found = self._pictures.look(source, anew=anew)
            if isinstance(found, RejectedPicture):
                self.counts[found.reason] += 1
                if self.counts[found.reason] <= _LOGGED:
                    log.warning("picture_rejected", source=source[:200], reason=found.reason)
                found = np.zeros(self.width, np.float32)
            else:
                self.counts["encoded"] += 1
            with self._lock:
                self._ready[item_index] = source, found

    def take(self) -> dict[int, tuple[str, Floats]]:
        """Return, once, what was looked at since the last call: by item index, where it was and its vector [V]."""
        with self._lock:
            ready, self._ready = self._ready, {}
        return ready
