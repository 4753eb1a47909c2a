"""The paper's Fig. 2 for any slice: what the structure-aware loss weighs where, and the kernels of chosen pixels."""

from collections.abc import Mapping

import numpy as np
from keras import ops
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, to_rgb
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from kpn_tf.denoiser import Denoiser
from kpn_tf.figures.panels import COLUMNS, DPI, LINE, PANEL, show_hu, square_panels, wrapped
from kpn_tf.figures.style import in_style
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.losses import StructureAwareLoss
from kpn_tf.metrics.structure import NEIGHBOURHOOD, unclipped
from kpn_tf.neighbours import stacked

# Colour of a pixel on which one weight alone is left, in the order of the weights. Of all triples of Okabe and Ito's
# colours the one whose mixtures stay furthest apart for every kind of colour vision, flat being dark.
WEIGHT_COLOURS = {
    "edge: squared error": "#56B4E9",
    "flat: absolute error": "#000000",
    "fine: similarity": "#E69F00",
}

# ColorBrewer's, made for the colour-blind: blue takes away, white does nothing, red adds.
KERNEL_COLOURS = "RdBu_r"

# Kernels of a stack side by side, and rows of taps that the text above one takes.
_ABREAST, _ABOVE = 3, 6

# Yellow with a black outline is seen on bone as well as on air.
_FRAME = {"color": "#F0E442", "path_effects": [withStroke(linewidth=2.5, foreground="black")]}


@in_style
def structure_figure(low_hu, normal_hu, networks, pixels=None, window="soft", crop=None, neighbours=()):
    """A slice at both doses, what the structure-aware loss weighs there, and kernels at some of its pixels.

    Each kernel is drawn on a scale of its own, by the root of the tap, so that small taps are seen as well. Those of a
    network for stacks stand together, one for each slice, each with the sum of its taps: how much of the pixel came
    from that slice.

    Args:
        low_hu: `(H, W)` in HU, what the networks see.
        normal_hu: `(H, W)` in HU, what the loss sees; the pixels are framed in it.
        networks: Dict of what has `kernels_at`, such as `StructKPN`, `StackKPN` or `kpn_tf.Denoiser`, by the name
            beside its row of kernels; may be empty.
        pixels: Sequence of `(row, column)`, or dict of them by name; by default the three of `remarkable_pixels`.
        window: Key of `kpn_tf.hounsfield.WINDOWS`, through which the slices are seen.
        crop: What is shown of the slice, `np.s_[top:bottom, left:right]`; by default all of it. Networks and loss
            look beyond it, and pixels are counted in the slice, not in the crop.
        neighbours: For networks of several `slices`, what lies beside `low_hu`: `kpn_tf.neighbours.Neighbour` or `None`
            for each other slice of the stack, in order of position; empty for a single slice.

    Returns:
        `matplotlib.figure.Figure`, to be written with `kpn_tf.figures.write`.

    Raises:
        TypeError: If something in `networks` has no `kernels_at`.
        ValueError: If the slices differ in shape, the window is unknown, the crop is empty, a pixel lies outside of it,
            or none is remarkable; if there are more or fewer neighbours than a network takes.

    Example:

    >>> import numpy as np
    >>> from kpn_tf import StructKPN
    >>> slice_hu = np.random.default_rng(0).normal(40, 20, (32, 37))
    >>> figure = structure_figure(slice_hu, slice_hu, {"untrained": StructKPN("edge")}, pixels=[(16, 20)])
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['low dose', 'normal dose', 'weights of the loss']

    Source: Xu et al., ICIP 2021, Fig. 2.
    """
    low_hu, normal_hu = np.asarray(low_hu, np.float32), np.asarray(normal_hu, np.float32)
    if low_hu.ndim != 2 or low_hu.shape != normal_hu.shape:
        raise ValueError(
            f"Expected two slices of one shape (H, W). Received: shapes {low_hu.shape} and {normal_hu.shape}"
        )
    if window not in WINDOWS:
        raise ValueError(f"Expected window to be one of {sorted(WINDOWS)}. Received: {window!r}")
    for name, network in networks.items():
        if not hasattr(network, "kernels_at"):
            raise TypeError(
                f"Expected networks that predict kernels, such as StructKPN. Received: {name!r}, a "
                f"{type(network).__name__} without kernels_at; leave it out"
            )
    rows, columns = _shown(crop, normal_hu.shape)
    shares = ops.convert_to_numpy(StructureAwareLoss().weights(normal_hu[None, :, :, None]))[0]  # (H, W, 3)
    pixels = remarkable_pixels(shares, normal_hu, crop) if pixels is None else _named(pixels, rows, columns)
    places = np.transpose(list(pixels.values()))
    kernels = {name: _kernels(network, low_hu, neighbours, places) for name, network in networks.items()}

    each = -(-len(pixels) // COLUMNS)  # rows of kernels for a network
    below = 5 * LINE if kernels else 2 * LINE
    figure, panels = square_panels(
        1 + each * len(kernels), COLUMNS, between=4 * LINE, left=3 * LINE, below=below
    )
    low, normal, weights = panels[0]
    show_hu(low, "low dose", low_hu, WINDOWS[window])
    show_hu(normal, "normal dose", normal_hu, WINDOWS[window])
    _show_weights(weights, shares)
    side = max(len(rows), len(columns))
    for axes in panels[0]:
        axes.set(xlim=(columns.start - 0.5, columns.stop - 0.5), ylim=(rows.stop - 0.5, rows.start - 0.5))
        # Pixels that are smaller than the panel's are averaged: to leave some out would change the noise.
        axes.images[0].set_interpolation("nearest" if side <= PANEL else "auto")
    for name, pixel in pixels.items():
        _frame(normal, name, pixel, side / 16)
    for number, (network, of_network) in enumerate(kernels.items()):
        first = 1 + number * each
        panels[first, 0].set_ylabel(wrapped(network))
        of_network_panels = panels[first : first + each].ravel()
        for axes, name, of_pixel in zip(of_network_panels, pixels, of_network, strict=False):
            _show_kernels(axes, name, of_pixel)
        for axes in of_network_panels[len(pixels) :]:
            axes.remove()
    if kernels:
        _add_scale(figure, panels[0, 1].get_position())
    return figure


def remarkable_pixels(shares, normal_hu, crop=None):
    """The pixels that are most of all flat, edge and fine structure.

    Only pixels whose neighbourhood lies in the slice and is left whole by the soft-tissue window: along the rim of what
    it clips, a trace of noise on one side alone passes for an edge.

    Args:
        shares: Of L2, L1 and SSIM, `(H, W, 3)`, as `StructureAwareLoss.weights` gives them.
        normal_hu: The slice they are of, `(H, W)` in HU.
        crop: Where to look, `np.s_[top:bottom, left:right]`; by default everywhere.

    Returns:
        Dict of `(row, column)` by name.

    Raises:
        ValueError: If there is no such pixel.
    """
    rows, columns = _shown(crop, normal_hu.shape)
    clear = unclipped(normal_hu)
    seen = np.zeros_like(clear)
    seen[np.ix_(rows, columns)] = True
    if not (clear & seen).any():
        raise ValueError(
            f"Expected soft tissue with nothing clipped {NEIGHBOURHOOD // 2} pixels around it. Received: a slice "
            "without; choose pixels"
        )
    found = {}
    for name, channel in (("flat", 1), ("edge", 0), ("fine", 2)):
        scores = np.where(clear & seen, shares[..., channel], -1)
        found[name] = tuple(int(n) for n in np.unravel_index(np.argmax(scores), scores.shape))
    return found


def _shown(crop, shape):
    """Rows and columns of a crop, two ranges."""
    rows, columns = (
        range(*part.indices(length)) for part, length in zip(crop or np.s_[:, :], shape, strict=True)
    )
    if not rows or not columns:
        raise ValueError(f"Expected a crop inside a slice of shape {shape}. Received: {crop}, which is empty")
    return rows, columns


def _named(pixels, rows, columns):
    """Dict of `(row, column)` by name, all of them inside the crop."""
    places = list(pixels.values() if isinstance(pixels, Mapping) else pixels)
    if not places or any(np.shape(place) != (2,) for place in places):
        raise ValueError(f"Expected pixels as a sequence of (row, column). Received: {pixels}")
    places = [(int(row), int(column)) for row, column in places]
    for row, column in places:
        if row not in rows or column not in columns:
            raise ValueError(
                f"Expected pixels in rows {rows.start} to {rows.stop - 1} and columns {columns.start} to "
                f"{columns.stop - 1}, which are shown. Received: ({row}, {column})"
            )
    return dict(zip(pixels if isinstance(pixels, Mapping) else map(str, places), places, strict=True))


def _show_weights(axes, shares):
    """Shows the weights of the loss `(H, W, 3)`, each as its share of a colour."""
    colours = np.array([to_rgb(colour) for colour in WEIGHT_COLOURS.values()])
    # Rounding may take a sum of shares a trace above one.
    axes.imshow(np.clip(shares @ colours, 0, 1))
    axes.set_title("weights of the loss")
    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in WEIGHT_COLOURS.items()],
        ncols=len(WEIGHT_COLOURS),
        loc="upper right",
        bbox_to_anchor=(1, 0),
        borderaxespad=0.2,
        frameon=False,
    )


def _frame(axes, name, pixel, side):
    """Frames a pixel and writes its name above, at the upper border below; at the others inwards."""
    row, column = pixel
    axes.add_patch(Rectangle((column - side / 2, row - side / 2), side, side, fill=False, **_FRAME))
    across, up = axes.transAxes.inverted().transform(axes.transData.transform((column, row)))
    at_top = up > 0.85
    axes.annotate(
        name,
        (column, row),
        xytext=(0, -8 if at_top else 8),
        textcoords="offset points",
        ha="left" if across < 0.15 else "right" if across > 0.85 else "center",
        va="top" if at_top else "bottom",
        **_FRAME,
    )


def _kernels(network, low_hu, neighbours, places):
    """The kernels at `(rows, columns)`, `(N, S, k, k)`."""
    slices = getattr(network, "slices", 1)
    if slices == 1:
        return np.asarray(network.kernels_at(low_hu, *places))[:, None]
    if isinstance(network, Denoiser):
        return network.kernels_at(low_hu, *places, neighbours=neighbours)
    return network.kernels_at(*stacked(low_hu, neighbours, slices), *places)


def _show_kernels(axes, name, kernels):
    """Shows the kernels of a pixel `(S, k, k)`, those of a stack three abreast, each below its share."""
    largest = np.abs(kernels).max()
    slices, side = kernels.shape[:2]
    picture = kernels[0]
    if slices > 1:
        across = min(slices, _ABREAST)
        down = -(-slices // across)
        length = max(down * (side + _ABOVE), across * (side + 1) - 1)
        picture = np.full((length, length), np.nan)
        for z, kernel in enumerate(kernels):
            top, left = z // across * (side + _ABOVE) + _ABOVE, z % across * (side + 1)
            picture[top : top + side, left : left + side] = kernel
            place = z - slices // 2
            text = f"{f'{place:+d}' if place else '0'}: {kernel.sum():.0%}"
            axes.annotate(text, (left, top - 1), va="bottom")
    axes.imshow(picture, cmap=KERNEL_COLOURS, norm=_by_root(largest), interpolation="nearest")
    axes.set_title(f"{name}, k = {side}, largest tap {largest:.3f}")


def _add_scale(figure, place):
    """The scale of all kernels, in the columns of a panel."""
    height = figure.get_figheight() * DPI
    axes = figure.add_axes((place.x0, 3.4 * LINE / height, place.width, 0.6 * LINE / height))
    figure.colorbar(
        ScalarMappable(_by_root(1), KERNEL_COLOURS),
        cax=axes,
        orientation="horizontal",
        ticks=(-1, -0.25, 0, 0.25, 1),
        format="{x:g}",
    )
    axes.set_xlabel("tap, as a share of the kernel's largest")


def _by_root(largest):
    return FuncNorm((_signed_root, _signed_square), vmin=-largest, vmax=largest)


def _signed_root(values):
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values):
    return np.sign(values) * np.square(values)
