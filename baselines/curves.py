"""Curves as SVG, by the standard library alone."""

from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _MARGIN = 250, 260, 46
_LEGEND_LINE = 17
# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8A8A8A")


@dataclass(frozen=True)
class Curve:
    """A line through points.

    Args:
        name: In the legend; curves of one name share their colour.
        x: Increasing.
        y: As many.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def svg(panels, *, x_label, y_label):
    """Panels side by side on common axes, under them the legend.

    Args:
        panels: Dict of lists of `Curve`s by the panel's title.
        x_label: Below every panel.
        y_label: Beside the first.

    Returns:
        The document, a str.

    Raises:
        ValueError: If there is no curve.
    """
    curves = [curve for panel in panels.values() for curve in panel]
    if not curves:
        raise ValueError("Expected at least one curve to draw. Received: none")
    names = list(dict.fromkeys(curve.name for curve in curves))
    x_ticks = sorted({x for curve in curves for x in curve.x})
    y_ticks = _ticks([y for curve in curves for y in curve.y])
    height = _HEIGHT + _LEGEND_LINE * len(names) + 8
    width = _WIDTH * len(panels) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="{_HEIGHT / 2}" transform="rotate(-90 12 {_HEIGHT / 2})" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]
    for number, (title, panel) in enumerate(panels.items()):
        parts += _panel(number * _WIDTH, title, panel, names, x_ticks, y_ticks, x_label)
    for number, name in enumerate(names):
        y = _HEIGHT + _LEGEND_LINE * number + 6
        parts.append(f'<line x1="{_MARGIN}" x2="{_MARGIN + 24}" y1="{y}" y2="{y}" {_stroke(number)}/>')
        parts.append(f'<text x="{_MARGIN + 30}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(left, title, curves, names, x_ticks, y_ticks, x_label):
    right, top, bottom = left + _WIDTH - 8, 26, _HEIGHT - 40
    first = left + _MARGIN

    def across(x):
        return first + 8 + (right - first - 16) * (x - x_ticks[0]) / ((x_ticks[-1] - x_ticks[0]) or 1)

    def down(y):
        return bottom - (bottom - top) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    middle = (first + right) / 2
    parts = [
        f'<text x="{middle}" y="16" text-anchor="middle" font-weight="bold">{escape(title)}</text>',
        f'<text x="{middle}" y="{bottom + 32}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    for y in y_ticks:
        parts.append(f'<line x1="{first}" x2="{right}" y1="{down(y):.1f}" y2="{down(y):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{first - 5}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        parts.append(f'<text x="{across(x):.1f}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>')
    for curve in curves:
        points = [f"{across(x):.1f},{down(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" {_stroke(names.index(curve.name))}/>'
        )
    return parts


def _stroke(number):
    dashes = ' stroke-dasharray="5 3"' if number >= len(_COLOURS) else ""
    return f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2"{dashes}'


def _ticks(values):
    """Round numbers that enclose the values, three to eight of them.

    Example:

    >>> _ticks([27.9, 33.2]), _ticks([17.0, 37.5])
    ([27, 28, 29, 30, 31, 32, 33, 34], [15, 20, 25, 30, 35, 40])
    """
    low, high = min(values), max(values)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / step < 6 or step == 100)
    first = int(low // step)
    last = max(first + 2, int(-(-high // step)))
    return [number * step for number in range(first, last + 1)]
