"""Charts as SVG that stands in a page: no script, colours by the classes of ``page.css``, words for who cannot see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup, escape

WIDTH: Final = 380
HEIGHT: Final = 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 26, 40
_STRIP: Final = 1000
"""Units across a strip, whatever its width in pixels."""


class Scale(NamedTuple):
    """The ends of an axis."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float | None], *also: float) -> Scale:
        """From a round number below these values to one above them, though not above 1 for none above it; 0 to 1 if
        there are none."""
        known = [value for value in (*values, *also) if value is not None and math.isfinite(value)]
        if not known:
            return cls(0, 1)
        low, high = min(known), max(known)
        margin = (high - low) * 0.06 or 0.01
        step = 10 ** math.floor(math.log10((high - low) / 5 or margin))
        ends = math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step
        return cls(round(ends[0], 10), min(round(ends[1], 10), 1) if high <= 1 else round(ends[1], 10))

    def at(self, value: float, length: float) -> float:
        """Where a value lies on an axis of this length; at its ends for what is outside."""
        return round(min(max((value - self.low) / (self.high - self.low), 0), 1) * length, 1)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers between the ends."""
        raw = (self.high - self.low) / about
        power = 10 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 10) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Line(NamedTuple):
    """A line of a chart."""

    kind: str
    """Its class in ``page.css``: ``model``, ``blessed``, ``best``, ``other``."""
    points: Sequence[tuple[float, float]]
    dots: bool = False
    """Whether each point is marked."""


def line_chart(
    name: str,
    title: str,
    says: str,
    lines: Sequence[Line],
    x: tuple[str, Scale],
    y: tuple[str, Scale],
    whole: bool = False,
    diagonal: bool = False,
) -> Markup:
    """Lines over two axes.

    Args:
      name: of the chart, unique in its page.
      title: read out first.
      says: what it shows, for who cannot see it.
      lines: the last one lies above the others.
      x: label and scale.
      y: likewise.
      whole: whether ``x`` counts, and so has whole ticks alone.
      diagonal: whether to draw the line where both are the same.
    """
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return round(_LEFT + x[1].at(point[0], across), 1), round(_TOP + up - y[1].at(point[1], up), 1)

    parts = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t" aria-describedby="{}-d">'
        ).format(WIDTH, HEIGHT, name, name),
        Markup('<title id="{}-t">{}</title><desc id="{}-d">{}</desc>').format(name, title, name, says),
    ]
    for tick in y[1].ticks():
        _, at = place((x[1].low, tick))
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(_LEFT, at, WIDTH - _RIGHT))
        parts.append(_text(_LEFT - 6, at + 4, _short(tick), "end"))
    for tick in x[1].ticks():
        if not whole or tick == int(tick):
            at, _ = place((tick, y[1].low))
            parts.append(_text(at, HEIGHT - _BOTTOM + 16, _short(tick), "middle"))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT))
    parts.append(_text(_LEFT + across / 2, HEIGHT - 6, x[0], "middle"))
    parts.append(_text(0, 12, y[0], "start"))
    if diagonal:
        (x0, y0), (x1, y1) = place((0, 0)), place((1, 1))
        parts.append(Markup('<path class="diagonal" d="M{} {}L{} {}"/>').format(x0, y0, x1, y1))
    for line in lines:
        placed = [place(point) for point in line.points]
        path = "L".join(f"{a:g} {b:g}" for a, b in placed)
        if placed:
            parts.append(Markup('<path class="line {}" d="M{}"/>').format(line.kind, path))
        if line.dots:
            dots = "".join(f"M{a:g} {b:g}h0" for a, b in placed)
            parts.append(Markup('<path class="dots {}" d="{}"/>').format(line.kind, dots))
    return Markup("").join([*parts, Markup("</svg>")])


def strip(
    scale: Scale, value: float | None, low: float | None, high: float | None, kind: str, at: Sequence[float] = ()
) -> Markup:
    """A value and its interval on a scale that the rows of a table share; the cell beside it has the numbers.

    Args:
      scale: of the column.
      value: None for an empty strip.
      low: of the interval, None for none.
      high: likewise.
      kind: as of a :class:`Line`.
      at: where lines stand across, as a bound or 0.
    """
    parts = [
        Markup('<svg class="strip" viewBox="0 0 {} 20" preserveAspectRatio="none" aria-hidden="true">').format(_STRIP)
    ]
    parts += [Markup('<path class="mark" d="M{:g} 0V20"/>').format(scale.at(mark, _STRIP)) for mark in at]
    if low is not None and high is not None and low <= scale.high and high >= scale.low:
        ends = scale.at(low, _STRIP), scale.at(high, _STRIP)
        parts.append(Markup('<path class="interval {}" d="M{:g} 10H{:g}"/>').format(kind, *ends))
    if value is not None and scale.low <= value <= scale.high:
        parts.append(Markup('<path class="point {}" d="M{:g} 10h0"/>').format(kind, scale.at(value, _STRIP)))
    elif value is not None:
        # It lies further out, on this side.
        tip, back = (_STRIP, _STRIP - 40) if value > scale.high else (0, 40)
        parts.append(Markup('<path class="beyond {}" d="M{} 5L{} 10L{} 15"/>').format(kind, back, tip, back))
    return Markup("").join([*parts, Markup("</svg>")])


def bar(value: float, of: float, kind: str = "model") -> Markup:
    """A share of the longest bar of a column."""
    length = Scale(0, of or 1).at(value, _STRIP)
    return Markup(
        '<svg class="strip" viewBox="0 0 {} 20" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="bar {}" y="5" width="{:g}" height="10"/></svg>'
    ).format(_STRIP, kind, length)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(x, y, anchor, escape(words))


def _short(value: float) -> str:
    return f"{value:g}"
