"""What all figures share: a style of their own, colours that the colour-blind tell apart, and how they are written.

Without pyplot, so that neither settings of the user nor other drawings touch them.
"""

from pathlib import Path

from matplotlib.style import context

from kpn_tf.files import replacing

# The salt makes the names inside an SVG the same in every process.
STYLE = [
    "default",
    {"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 9, "svg.hashsalt": "kpn_tf", "axes.titlepad": 4},
]

# Decorates what draws.
in_style = context(STYLE)

# Okabe and Ito, "Color Universal Design" (2008), but grey for yellow, which vanishes on white.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8A8A8A")
# One more than colours: the pairs repeat late.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")

# What would name the day and the version.
_METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}


def line_style(number):
    """How a curve is drawn; no two of the first 72 look alike.

    Args:
        number: Of the curve, from 0.

    Returns:
        Dict of matplotlib's `color` and `marker`.
    """
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def laid_out(figure):
    """Lays a figure out for good: each drawing would do so again, and end a rounding error away.

    Args:
        figure: `matplotlib.figure.Figure` with a layout engine and all that it will show.

    Returns:
        The same figure.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


@in_style
def write(figure, path):
    """Writes a figure, atomically; the same figure gives the same bytes.

    Args:
        figure: `matplotlib.figure.Figure`.
        path: Of the file, which ends in `.png` or `.svg`.

    Raises:
        ValueError: If it ends in something else.
    """
    path = Path(path)
    if path.suffix not in _METADATA:
        raise ValueError(f"Expected a path that ends in .png or .svg. Received: {path.name!r}; rename it")
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], metadata=_METADATA[path.suffix])
