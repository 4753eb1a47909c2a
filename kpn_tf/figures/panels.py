"""Square panels that show slices: what figures of crops and of kernels are made of."""

import textwrap

from matplotlib.figure import Figure

# In pixels. A panel is a whole multiple of the side of a crop of 64 or 128: all its pixels become equally large; three
# abreast fill a page.
DPI = 100
PANEL, GAP, COLUMNS = 256, 12, 3
LINE = 16

# What fits above or beside a panel, in two lines.
_LETTERS = 36


def square_panels(rows, columns, *, between=3 * LINE, left=GAP, below=GAP):
    """A figure of square panels without ticks; lengths in pixels.

    Args:
        rows: How many above each other.
        columns: How many abreast.
        between: Height between two rows.
        left: Width of the left margin.
        below: Height of the lower margin.

    Returns:
        `matplotlib.figure.Figure` and its axes, a NumPy array `(rows, columns)`.
    """
    above = 2 * LINE + GAP
    width = left + columns * (PANEL + GAP)
    height = above + rows * (PANEL + between) - between + below
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        subplot_kw={"xticks": (), "yticks": ()},
        gridspec_kw={
            "left": left / width,
            "right": 1 - GAP / width,
            "bottom": below / height,
            "top": 1 - above / height,
            "wspace": GAP / PANEL,
            "hspace": between / PANEL,
        },
    )
    for axes in panels.flat:
        axes.spines[:].set_color("0.7")
    return figure, panels


def show_hu(axes, name, slice_hu, window):
    """Shows a slice and writes its name above.

    Args:
        axes: Where.
        name: Of what is shown.
        slice_hu: `(H, W)` in HU.
        window: `kpn_tf.hounsfield.Window` it is seen through.
    """
    axes.imshow(slice_hu, cmap="gray", vmin=window.low_hu, vmax=window.high_hu, interpolation="nearest")
    axes.set_title(wrapped(name))


def wrapped(name):
    """A name in lines; an equation stays together.

    Args:
        name: To stand above or beside a panel.

    Returns:
        The name with line breaks.
    """
    return textwrap.fill(name.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), _LETTERS)
