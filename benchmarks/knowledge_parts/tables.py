"""Figures over seeds as cells, tables as Markdown and for the terminal."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

Cells = Sequence[Sequence[str]]


def spread(values: Sequence[float]) -> str:
    """Return the mean and the standard deviation over seeds.

    >>> spread([0.1, 0.2, 0.3]), spread([0.25])
    ('0.2000 ± 0.1000', '0.2500')
    """
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def markdown_table(header: Sequence[str], cells: Cells) -> str:
    """Return a table as Markdown.

    >>> print(markdown_table(["a"], [["1"]]))
    | a |
    | --- |
    | 1 |
    """
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *cells))


def console_table(title: str, header: Sequence[str], cells: Cells) -> Table:
    """Return a table for the terminal."""
    page = Table(*header, title=title)
    for row in cells:
        page.add_row(*row)
    return page


def yes(holds: bool) -> str:  # noqa: FBT001 - the one thing there is to say
    """Say whether a bar is met."""
    return "yes" if holds else "NO"
