"""The shared model as an expert: a release's opinion on every item of the catalogue, known to it or not."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from learners.histories import Past
from learners.items.catalog import Catalog
from learners.items.layout import Parts
from learners.mixture.pool import log_softmax
from learners.releases.release import LoadedRelease

Floats = npt.NDArray[np.float32]

BLOCK = 64
"""Histories that are encoded together. A float's last bits depend on the shape of the multiplication it comes from, so
the learner always uses this one shape, each history at the place that its number in the stream gives it: however a
stream is cut into calls, the scores are the same to the bit."""

_ROWS_STEP = 1_024


class Descriptions:
    """What describes items that came after a release, by `item_index`; a later description replaces an earlier one."""

    def __init__(self) -> None:
        self._parts: dict[int, Parts] = {}
        self._told: list[int] = []

    def put(self, item_index: int, parts: Parts) -> None:
        """Describe an item."""
        self._parts[item_index] = parts
        self._told.append(item_index)

    def since(self, start: int) -> dict[int, Parts]:
        """Return what was told after the first `start` times, in that order."""
        return {index: self._parts[index] for index in self._told[start:]}

    def __len__(self) -> int:
        """How often an item was described."""
        return len(self._told)


class SharedExpert:
    """A release, its items re-ordered to the catalogue's indexes.

    Items the release has never seen are scored by what describes them where that was given, else like the average item.

    Args:
        release: The model.
        catalog: Item indexes.
        descriptions: Of items that came after the release.
    """

    def __init__(self, release: LoadedRelease, catalog: Catalog, descriptions: Descriptions) -> None:
        self.release = release
        self.version = release.version
        self._catalog = catalog
        self._descriptions = descriptions
        self._source = torch.from_numpy(release.item_matrix)
        width = release.item_matrix.shape[1]
        self._matrix = torch.zeros(0, width)
        self._known: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._items = 0
        self._taken_in = (0, 0)
        self._blind: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def refresh(self) -> None:
        """Take in items and descriptions that are new since the last call."""
        items = len(self._catalog)
        if (items, len(self._descriptions)) == self._taken_in:
            return
        told = self._descriptions.since(self._taken_in[1])
        self._taken_in = items, len(self._descriptions)
        if items > len(self._matrix):
            rows = -(-items // _ROWS_STEP) * _ROWS_STEP
            matrix = torch.zeros(rows, self._source.shape[1])
            matrix[: len(self._matrix)] = self._matrix
            known = np.zeros(rows, np.bool_)
            known[: len(self._known)] = self._known
            self._matrix, self._known = matrix, known
        index_of = self.release.index_of
        new = range(max(1, self._items), items)
        pairs = [(index, row) for index in new if (row := index_of.get(self._catalog.item_ids[index], 0))]
        if pairs:
            indexes, rows_of = (list(column) for column in zip(*pairs, strict=True))
            self._matrix[indexes] = self._source[rows_of]
            self._known[indexes] = True
        layout = self.release.model.config.layout
        fresh = {
            index: layout.row(parts) for index, parts in told.items() if self._catalog.item_ids[index] not in index_of
        }
        if described := [index for index, row in fresh.items() if row.any()]:
            vectors = np.stack([fresh[index] for index in described])
            self._matrix[described] = torch.from_numpy(self.release.encode_new_items(vectors))
            self._known[described] = True
        self._items = items
        self._blind = np.flatnonzero(~self._known[:items])[1:]

    def logits(self, pasts: Sequence[Past], *, first: int | None = None) -> Floats:
        """Return scores of every row of the catalogue for some histories, [len(pasts), >= N].

        Args:
            pasts: Histories; at most `BLOCK - first` of them where `first` is given.
            first: Place of the first in its block: the same history at the same place gives the same bits. None: only
                as much is computed as these histories need.
        """
        length = self.release.model.config.history_length
        rows = [items[self._known[items]] for items in (past.items[-length:] for past in pasts)]
        width = length if first is not None else max(1, *map(len, rows)) if rows else 1
        start, height = (first, BLOCK) if first is not None else (0, len(rows))
        padded = torch.zeros(height, width, dtype=torch.int64)
        lengths = torch.zeros(height, dtype=torch.int64)
        for place, items in enumerate(rows, start=start):
            padded[place, : len(items)] = torch.from_numpy(items)
            lengths[place] = len(items)
        with torch.inference_mode():
            users = self.release.model.newest(self._matrix[padded], lengths)
            logits: Floats = (users @ self._matrix.T).numpy()
        return logits[start : start + len(pasts)]

    def log_probabilities(self, logits: Floats, *, items: int, barred: npt.NDArray[np.int64]) -> Floats:
        """Return log-probabilities [N] from one row of `logits`.

        Args:
            logits: One row.
            items: N, padding included.
            barred: Item indexes that must not be ranked.
        """
        row = logits[:items].copy()
        if len(blind := self._blind[self._blind < items]):
            row[blind] = row[self._known[:items]].mean()
        row[barred] = np.float32(-1e9)
        return log_softmax(row)
