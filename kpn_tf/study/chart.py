"""Curves over strength as SVG: the base install draws nothing else."""

import html
import math

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 340, 210, 42, 96, 24, 34
_TICKS = 5

# Okabe and Ito, "Color Universal Design" (2008); dashes tell curves apart without colour.
_STYLES = (
    ("#0072B2", ""),
    ("#D55E00", "6 3"),
    ("#009E73", "2 3"),
    ("#CC79A7", "8 3 2 3"),
    ("#000000", "4 4"),
    ("#8A8A8A", "1 2"),
)


def chart(title, unit, curves, marked=None):
    """Draws curves over strength from 0 to 1.

    Args:
        title: What the vertical axis shows.
        unit: Its unit.
        curves: Dict of lists of `(strength, value)` by name.
        marked: A strength that is marked by a line, or `None`.

    Returns:
        SVG, text.
    """
    values = [value for points in curves.values() for _, value in points if math.isfinite(value)]
    top = _ceiling(max(values, default=1.0))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(strength, value):
        x = _LEFT + strength * (right - _LEFT)
        return x, bottom - value / top * (bottom - _TOP)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(f"{title} over strength")}">',
        f'<text x="2" y="12" class="title">{html.escape(f"{title} ({unit})")}</text>',
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">strength</text>',
    ]
    for i in range(_TICKS + 1):
        x, y = place(i / _TICKS, top * i / _TICKS)
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{top * i / _TICKS:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 13}" text-anchor="middle">{i / _TICKS:g}</text>')
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
    if marked is not None:
        x, _ = place(marked, 0)
        parts.append(f'<path class="marked" d="M{x:.1f} {_TOP}V{bottom}"/>')
    beside = -math.inf
    ended = sorted(
        (
            (place(*points[-1])[1], number, name, points)
            for number, (name, points) in enumerate(curves.items())
        ),
        key=lambda one: one[0],
    )
    for y, number, name, points in ended:
        colour, dashes = _STYLES[number % len(_STYLES)]
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        )
        # Names stand where curves end, and never on each other.
        beside = max(y + 3, beside + 11)
        parts.append(f'<text x="{right + 5}" y="{beside:.1f}" fill="{colour}">{html.escape(name)}</text>')
    return "".join(parts) + "</svg>"


def _ceiling(value):
    """The next larger number that five ticks divide well.

    Example:

    >>> _ceiling(17.3), _ceiling(101.0)
    (20.0, 125.0)
    """
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(n * power for n in (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0) if n * power >= value)
