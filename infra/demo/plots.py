"""Line charts as inline SVG, drawn without a library: the report is one file that opens anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH = 960
HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 34, 40
LABEL_GAP = 15  # closest that two labels at the right edge may come

Point = tuple[float, float | None]  # a gap in the line where there is no value


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: its name, its colour (a CSS variable's name) and its points, oldest first."""

    name: str
    colour: str
    points: Sequence[Point]
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Band:
    """A planted drift: a vertical line at its start, a shade over the window in which an alarm counts, a label."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A small sign on the time axis: an alarm above the plot, a release below it."""

    at: float
    colour: str
    title: str
    is_above: bool = False


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers that span low to high, about `count` of them.

    >>> ticks(0, 0.43)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    >>> ticks(0, 28, count=7)
    [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    scale: float = 10.0 ** floor(log10(raw))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale >= raw * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def spread(positions: Sequence[float], *, gap: float) -> list[float]:
    """Move labels down just so far that none covers another.

    >>> spread([10, 12, 50], gap=15)
    [10, 25, 50]
    """
    placed: dict[int, float] = {}
    last = float("-inf")
    for index in sorted(range(len(positions)), key=lambda i: positions[i]):
        last = max(positions[index], last + gap)
        placed[index] = last
    return [placed[index] for index in range(len(positions))]


def line_chart(
    *,
    title: str,
    lines: Sequence[Line],
    bands: Sequence[Band],
    marks: Sequence[Mark],
    x_range: tuple[float, float],
    x_label: str,
) -> str:
    """Draw lines over time, with drift as bands, alarms as triangles above and releases as ticks below.

    Args:
        title: Said above the chart, and to screen readers.
        lines: Values are shares, 0 to 1, shown in per cent.
        bands: Planted drifts.
        marks: Alarms and releases.
        x_range: First and last moment.
        x_label: Unit of the time axis.
    """
    values = [value for line in lines for _, value in line.points if value is not None]
    y_ticks = ticks(0.0, max(values, default=1.0) * 1.05 or 1.0)
    frame = _Frame(x_range=x_range, y_high=max([*y_ticks, *(value * 1.05 for value in values)], default=1.0) or 1.0)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(_band(band, frame) for band in bands),
        *(_y_tick(value, frame) for value in y_ticks),
        *(_x_tick(value, frame) for value in ticks(*x_range, count=7)),
        f'<text class="axis" x="{frame.right}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>',
        *(_curve(line, frame) for line in lines),
        *_line_labels(lines, frame),
        *(_mark(mark, frame) for mark in marks),
        "</svg>",
    ]
    return "\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """Where values lie on the canvas."""

    x_range: tuple[float, float]
    y_high: float

    @property
    def right(self) -> int:
        return WIDTH - RIGHT

    @property
    def floor(self) -> int:
        return HEIGHT - BOTTOM

    def x(self, at: float) -> float:
        first, last = self.x_range
        share = (at - first) / ((last - first) or 1)
        return round(LEFT + min(max(share, 0.0), 1.0) * (self.right - LEFT), 1)

    def y(self, value: float) -> float:
        return round(self.floor - value / self.y_high * (self.floor - TOP), 1)


def _curve(line: Line, frame: _Frame) -> str:
    steps: list[str] = []
    is_drawing = False
    for at, value in line.points:
        if value is not None:
            steps.append(f"{'L' if is_drawing else 'M'}{frame.x(at)},{frame.y(value)}")
        is_drawing = value is not None
    dash = ' stroke-dasharray="5 4"' if line.is_dashed else ""
    return f'<path d="{" ".join(steps)}" style="stroke:var(--{line.colour})"{dash}/>' if steps else ""


def _line_labels(lines: Sequence[Line], frame: _Frame) -> list[str]:
    """The name and last value of every line, at its right end."""
    ends = [
        (line, [value for _, value in line.points if value is not None][-1])
        for line in lines
        if any(value is not None for _, value in line.points)
    ]
    heights = spread([frame.y(value) for _, value in ends], gap=LABEL_GAP)
    return [
        f'<text class="name" x="{frame.right + 8}" y="{height + 4}" style="fill:var(--{line.colour})">'
        f"{escape(line.name)} {value:.1%}</text>"
        for (line, value), height in zip(ends, heights, strict=True)
    ]


def _band(band: Band, frame: _Frame) -> str:
    left, right = frame.x(band.start), frame.x(band.end)
    return (
        f'<rect class="window" x="{left}" y="{TOP}" width="{max(right - left, 0):.1f}" height="{frame.floor - TOP}"/>'
        f'<line class="drift" x1="{left}" x2="{left}" y1="{TOP - 16}" y2="{frame.floor}"/>'
        f'<text class="drift" x="{left + 4}" y="{TOP - 20}">{escape(band.label)}</text>'
    )


def _y_tick(value: float, frame: _Frame) -> str:
    y = frame.y(value)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{frame.right}" y1="{y}" y2="{y}"/>'
        f'<text class="axis" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value * 100:.3g} %</text>'
    )


def _x_tick(value: float, frame: _Frame) -> str:
    x = frame.x(value)
    return f'<text class="axis" x="{x}" y="{frame.floor + 24}" text-anchor="middle">{value:.3g}</text>'


def _mark(mark: Mark, frame: _Frame) -> str:
    x = frame.x(mark.at)
    y = TOP - 3 if mark.is_above else frame.floor + 2
    shape = f"M{x - 5},{y - 9} h10 l-5,9 z" if mark.is_above else f"M{x},{y} l4.5,8 h-9 z"
    return (
        f'<path class="mark" d="{shape}" style="fill:var(--{mark.colour})"><title>{escape(mark.title)}</title></path>'
    )
