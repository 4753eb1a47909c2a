"""The figures of the benchmark's page as matplotlib draws them; what they show is chosen in `baselines.figures`."""

import textwrap

import numpy as np
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from kpn_tf.figures.style import in_style, line_style

# In pixels: whole multiples of a crop's side, so that all its pixels become equally large; three abreast fill a page.
_DPI = 100
_PANEL, _GAP, _COLUMNS = 256, 12, 3
_LINE = 16

# What fits above or beside a panel, in two lines.
_LETTERS = 36

# Squared error, absolute error, similarity: the channels of the map.
_CHANNELS = {"squared error": "red", "absolute error": "lime", "similarity": "blue"}


@in_style
def crops_figure(slices_hu, window):
    """Crops side by side.

    Args:
        slices_hu: Dict of `(H, W)` in HU by the name above it.
        window: `kpn_tf.hounsfield.Window` they are seen through.

    Returns:
        `matplotlib.figure.Figure`.
    """
    columns = min(_COLUMNS, len(slices_hu))
    figure, panels = _panels(-(-len(slices_hu) // columns), columns)
    for axes, (name, slice_hu) in zip(panels.flat, slices_hu.items(), strict=False):
        _show_hu(axes, name, slice_hu, window)
    for axes in panels.flat[len(slices_hu) :]:
        axes.remove()
    return figure


@in_style
def structure_figure(low_hu, normal_hu, window, shares, pixels, kernels):
    """A crop, what the structure-aware loss weighs there, and kernels at some of its pixels.

    Args:
        low_hu: `(H, W)` in HU.
        normal_hu: `(H, W)` in HU, in which the pixels are framed.
        window: `kpn_tf.hounsfield.Window` both are seen through.
        shares: Weights of squared error, absolute error and similarity, `(H, W, 3)` in [0, 1].
        pixels: Dict of three `(row, column)` by name.
        kernels: Dict of their kernels `(3, k, k)` by network.

    Returns:
        `matplotlib.figure.Figure`.
    """
    below = 5 * _LINE if kernels else 2 * _LINE
    figure, panels = _panels(1 + len(kernels), 3, between=4 * _LINE, left=3 * _LINE, below=below)
    _show_hu(panels[0, 0], "low dose", low_hu, window)
    _show_hu(panels[0, 1], "normal dose", normal_hu, window)
    for name, pixel in pixels.items():
        _frame(panels[0, 1], name, pixel)
    panels[0, 2].imshow(shares, interpolation="nearest")
    panels[0, 2].set_title("weights of the loss")
    panels[0, 2].legend(
        handles=[Patch(color=colour, label=name) for name, colour in _CHANNELS.items()],
        ncols=len(_CHANNELS),
        loc="upper right",
        bbox_to_anchor=(1, 0),
        borderaxespad=0.2,
        frameon=False,
    )
    norm = FuncNorm((_signed_root, _signed_square), vmin=-1, vmax=1)
    for row, (network, of_network) in zip(panels[1:], kernels.items(), strict=True):
        row[0].set_ylabel(_wrapped(network))
        for axes, name, kernel in zip(row, pixels, of_network, strict=True):
            largest = np.abs(kernel).max()
            drawn = axes.imshow(kernel / largest, cmap="RdBu_r", norm=norm, interpolation="nearest")
            axes.set_title(f"{name}, k = {len(kernel)}, largest tap {largest:.3f}")
    if kernels:
        place = panels[-1, 1].get_position()
        height = figure.get_figheight() * _DPI
        scale = figure.add_axes((place.x0, 3.4 * _LINE / height, place.width, 0.6 * _LINE / height))
        figure.colorbar(
            drawn, cax=scale, orientation="horizontal", ticks=(-1, -0.25, 0, 0.25, 1), format="{x:g}"
        )
        scale.set_xlabel("tap, as a share of the kernel's largest")
    return figure


@in_style
def dose_figure(curves, y_label):
    """PSNR over tube current, a panel for each tube voltage.

    Args:
        curves: `kpn_tf.datasets.dose_curve.DoseCurve`s.
        y_label: Beside the first panel.

    Returns:
        `matplotlib.figure.Figure`.
    """
    voltages_kv = sorted({curve.tube_voltage_kv for curve in curves})
    names = list(dict.fromkeys(curve.denoiser for curve in curves))
    figure = Figure(figsize=(9, 3.5 + 0.1 * len(names)), layout="constrained")
    panels = dict(
        zip(voltages_kv, figure.subplots(1, len(voltages_kv), sharey=True, squeeze=False)[0], strict=True)
    )
    lines = {}
    for curve in curves:
        (lines[curve.denoiser],) = panels[curve.tube_voltage_kv].plot(
            curve.currents_ma,
            curve.psnr_db,
            **line_style(names.index(curve.denoiser)),
            label=curve.denoiser,
        )
    for voltage_kv, axes in panels.items():
        axes.set(title=f"{voltage_kv} kV", xlabel="tube current (mA)")
        axes.set_xticks(
            sorted({mA for c in curves if c.tube_voltage_kv == voltage_kv for mA in c.currents_ma})
        )
        axes.grid(color="0.9")
    panels[voltages_kv[0]].set_ylabel(y_label)
    figure.legend(handles=[lines[name] for name in names], loc="outside lower center", ncols=2)
    return figure


def _panels(rows, columns, *, between=3 * _LINE, left=_GAP, below=_GAP):
    """A figure of square panels without ticks; lengths in pixels."""
    above = 2 * _LINE + _GAP
    width = left + columns * (_PANEL + _GAP)
    height = above + rows * (_PANEL + between) - between + below
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        subplot_kw={"xticks": (), "yticks": ()},
        gridspec_kw={
            "left": left / width,
            "right": 1 - _GAP / width,
            "bottom": below / height,
            "top": 1 - above / height,
            "wspace": _GAP / _PANEL,
            "hspace": between / _PANEL,
        },
    )
    for axes in panels.flat:
        axes.spines[:].set_color("0.7")
    return figure, panels


def _show_hu(axes, name, slice_hu, window):
    axes.imshow(slice_hu, cmap="gray", vmin=window.low_hu, vmax=window.high_hu, interpolation="nearest")
    axes.set_title(_wrapped(name))


def _frame(axes, name, pixel):
    """Frames a pixel and writes its name beside it."""
    row, column = pixel
    axes.add_patch(Rectangle((column - 4, row - 4), 8, 8, fill=False, edgecolor="yellow"))
    left = column > np.mean(axes.get_xlim())
    axes.annotate(
        name,
        (column, row),
        xytext=(-12 if left else 12, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color="yellow",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def _wrapped(name):
    """A name in lines; an equation stays together."""
    return textwrap.fill(name.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), _LETTERS)


def _signed_root(values):
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values):
    return np.sign(values) * np.square(values)
