"""How what describes an item lies in one row: text, then picture, then attributes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Parts = tuple[Floats, ...]
"""What describes one item: its text vector, and beside it, or not, those of its picture and its attributes."""


class Layout(NamedTuple):
    """Widths of the three descriptions; 0 for one that rows do not have.

    >>> rows = np.arange(8, dtype=np.float32).reshape(1, 8)
    >>> given = Layout(text=3, image=4, attributes=1)
    >>> [part.tolist() for part in given.parts(rows[0])]
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0]]
    >>> given.fitted(rows, Layout(text=3, image=0, attributes=1)).tolist()
    [[0.0, 1.0, 2.0, 7.0]]
    >>> Layout(text=3).fitted(rows[:, :3], Layout(text=3, image=2)).tolist()
    [[0.0, 1.0, 2.0, 0.0, 0.0]]
    """

    text: int
    image: int = 0
    attributes: int = 0

    def __str__(self) -> str:
        """Return it in words, for people.

        >>> print(Layout(text=384, image=975))
        text 384 + image 975
        """
        return " + ".join(f"{name} {width}" for name, width in self._asdict().items() if width)

    def parts(self, row: Floats) -> Parts:
        """Return the descriptions in a row, text alone where there is no place for another."""
        if not self.image and not self.attributes:
            return (row,)
        text, image, _ = accumulate(self)
        return row[:text], row[text:image], row[image:]

    def row(self, parts: Sequence[Floats]) -> Floats:
        """Return the row of an item; zeros for a description of another width than it has here."""
        row = np.zeros(sum(self), np.float32)
        stop = 0
        for width, part in zip(self, parts, strict=False):
            if len(part) == width:
                row[stop : stop + width] = part
            stop += width
        return row

    def fitted(self, rows: Floats, wanted: "Layout") -> Floats:
        """Return rows of this layout, [n, its width], as another one wants them; the same array if it is this one."""
        if wanted == self:
            return rows
        return np.stack([wanted.row(self.parts(row)) for row in rows]) if len(rows) else rows[:, :0]
