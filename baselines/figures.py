"""The paper's figures again, on the digital torso: it shows no patient, so it may be shown anywhere."""

import functools
from dataclasses import dataclass

import numpy as np

from baselines.curves import Curve, svg
from baselines.tables import LOW_DOSE, in_full
from kpn_tf.datasets.dose_curve import dose_curves
from kpn_tf.evaluation import LOW_DOSE as LOW_DOSE_NAME
from kpn_tf.evaluation import Results
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.losses import StructureAwareLoss
from kpn_tf.normal_dose import SeriesNoise, noise_like, simulate_low_dose
from kpn_tf.phantom import torso
from kpn_tf.png import grey, write_png
from kpn_tf.simulation import SPECTRA
from kpn_tf.training_data import DOSE

SIDE, PIXEL_MM = 512, 0.75
_NOISE = SeriesNoise(12.0, SPECTRA["soft"])

# Pixels around a crop that a method sees and the figure does not.
_MARGIN = 32

# Side of what the loss looks at around a pixel.
_NEIGHBOURHOOD = StructureAwareLoss().size

_COLUMNS = 5
_GAP = 4


@dataclass(frozen=True)
class Crop:
    """A square of the torso's middle slice.

    Args:
        figure: Number of the figure it is for.
        title: What it shows.
        row: Upper end, as a share of the slice.
        column: Left end, likewise.
        window: Name of the window it is seen through.
    """

    figure: int
    title: str
    row: float
    column: float
    window: str

    def cut(self, slice_hu, margin=0):
        """The square, a quarter of the slice wide, and a margin around it."""
        side = SIDE // 4
        row, column = round(self.row * SIDE), round(self.column * SIDE)
        return slice_hu[row - margin : row + side + margin, column - margin : column + side + margin]


STRUCTURE = Crop(2, "spine, aorta and lung", 0.47, 0.37, "soft")
CROPS = (
    Crop(3, "liver with lesions of ±15 and ±20 HU", 0.35, 0.17, "soft"),
    Crop(6, "lung", 0.22, 0.64, "lung"),
)


def figures(benchmark, output):
    """Draws what is finished into `images/` beside the page.

    Args:
        benchmark: `baselines.rows.Benchmark`.
        output: Path of the page, which names the files.

    Returns:
        Markdown that shows and explains them.
    """
    folder = output.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    titles = {row.method: row.title for table in benchmark.plan.tables if table.in_full for row in table.rows}
    finished = [method for method in in_full(benchmark.plan.tables) if benchmark.row(method)]
    opened = {
        titles[method]: found
        for method in finished
        if method != LOW_DOSE and (found := benchmark.opened(method))
    }
    parts = [
        "## Figures",
        "Of the digital torso, whatever the tables were measured on: 512×512, 12 HU of noise at the normal dose, a "
        "quarter of that dose simulated.",
        _loss_and_kernels(opened, folder, output.stem),
    ]
    parts += [_crops(crop, opened, folder, output.stem) for crop in CROPS]
    curves = {
        titles[method]: row for method in in_full(benchmark.plan.tables) if (row := benchmark.curve(method))
    }
    if curves:
        parts.append(_dose_curves(curves, folder, output.stem))
    return "\n\n".join(parts) + "\n"


def remarkable_pixels(shares, normal_hu, margin):
    """The pixels that are most of all flat, edge and fine structure.

    Only pixels whose neighbourhood the window leaves whole: along the rim of what it clips, a trace of noise on one
    side alone passes for an edge.

    Args:
        shares: Of L2, L1 and SSIM, `(H, W, 3)`, as `StructureAwareLoss.weights` gives them.
        normal_hu: The slice they are of, `(H, W)` in HU.
        margin: Pixels at the border that are not looked at, half a neighbourhood or more.

    Returns:
        Dict of `(row, column)` by name.

    Raises:
        ValueError: If there is no such pixel.
    """
    half, soft = _NEIGHBOURHOOD // 2, WINDOWS["soft"]
    whole = np.zeros(normal_hu.shape, bool)
    clipped = (normal_hu <= soft.low_hu) | (normal_hu >= soft.high_hu)
    around = np.lib.stride_tricks.sliding_window_view(clipped, (_NEIGHBOURHOOD, _NEIGHBOURHOOD))
    whole[half:-half, half:-half] = ~around.any(axis=(2, 3))
    whole[:margin] = whole[-margin:] = whole[:, :margin] = whole[:, -margin:] = False
    if not whole.any():
        raise ValueError("Expected soft tissue with nothing clipped around it. Received: a slice without")
    found = {}
    for name, channel in (("flat", 1), ("edge", 0), ("fine", 2)):
        scores = np.where(whole, shares[..., channel], -1)
        found[name] = tuple(int(n) for n in np.unravel_index(np.argmax(scores), scores.shape))
    return found


@functools.cache
def _torso_pair():
    """The torso's middle slice at a quarter of the dose and at normal dose, `(H, W)` in HU."""
    (truth_hu,) = torso(SIDE, SIDE, 1, PIXEL_MM * 512 / SIDE).volume_hu
    rng = np.random.default_rng(20210919)
    pixel_mm = PIXEL_MM * 512 / SIDE
    normal_hu = truth_hu + noise_like(truth_hu, pixel_mm, _NOISE.std_hu, _NOISE.spectrum, rng)
    return simulate_low_dose(normal_hu, pixel_mm, dose=DOSE, noise=_NOISE, rng=rng), normal_hu


def _crops(crop, opened, folder, stem):
    low_hu, normal_hu = _torso_pair()
    shown = {"low dose": crop.cut(low_hu)}
    for title, (denoise, _) in opened.items():
        denoised_hu = denoise(np.array(crop.cut(low_hu, _MARGIN), np.float32))
        shown[title] = denoised_hu[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    shown["normal dose"] = crop.cut(normal_hu)
    path = folder / f"{stem}_fig{crop.figure}.png"
    write_png(path, _grid([grey(slice_hu, WINDOWS[crop.window]) for slice_hu in shown.values()], enlarged=2))
    window = WINDOWS[crop.window]
    caption = (
        f"*Fig. {crop.figure}: {crop.title}, {window.low_hu:g} to {window.high_hu:g} HU; row by row: "
        f"{'; '.join(shown)}.*"
    )
    return f"![{crop.title}, by every method](images/{path.name})\n\n{caption}"


def _loss_and_kernels(opened, folder, stem):
    low_hu, normal_hu = _torso_pair()
    seen_hu = STRUCTURE.cut(normal_hu, _MARGIN)
    shares = np.asarray(StructureAwareLoss().weights(seen_hu[None, :, :, None].astype(np.float32)))[0]
    pixels = remarkable_pixels(shares, seen_hu, _MARGIN)
    pictures = [
        grey(STRUCTURE.cut(low_hu, _MARGIN), WINDOWS["soft"])[..., None].repeat(3, -1),
        _marked(grey(seen_hu, WINDOWS["soft"]), pixels),
        np.rint(255 * shares).astype(np.uint8),
    ]
    pictures = [picture[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] for picture in pictures]
    caption = (
        "*Fig. 2: low dose, normal dose (-160 to 240 HU), and what the structure-aware loss weighs there: squared "
        "error red, absolute error green, similarity blue."
    )
    networks = {title: network for title, (_, network) in opened.items() if hasattr(network, "kernels_at")}
    rows, columns = zip(*pixels.values(), strict=True)
    side = 2 * pictures[0].shape[0]
    lines = [_grid(pictures, enlarged=2)]
    for network in networks.values():
        kernels = network.kernels_at(STRUCTURE.cut(low_hu, _MARGIN), rows, columns)
        lines.append(_grid([_kernel_picture(kernel, side) for kernel in kernels]))
    if networks:
        caption += (
            f" Below, row by row, kernels of {'; '.join(networks)} at the framed pixels, the most {', '.join(pixels)} "
            "there: taps by the root of their size, each kernel on a scale of its own, grey is zero."
        )
    path = folder / f"{stem}_fig2.png"
    write_png(path, _stack(lines))
    return f"![Map of the loss, and kernels](images/{path.name})\n\n{caption}*"


def _dose_curves(rows, folder, stem):
    some = next(iter(rows.values()))
    records = [
        {**record, "denoiser": LOW_DOSE_NAME if record["denoiser"] == LOW_DOSE_NAME else title}
        for title, row in rows.items()
        for record in row["records"]
    ]
    results = Results(some["data"], (some["convention"],), tuple(records), float("nan"))
    panels = {}
    for curve in dose_curves(results, some["convention"]):
        panels.setdefault(f"{curve.tube_voltage_kv} kV", []).append(
            Curve(curve.denoiser, curve.currents_ma, curve.psnr_db)
        )
    path = folder / f"{stem}_fig5.svg"
    drawing = svg(panels, x_label="tube current (mA)", y_label=f"PSNR {some['convention']} (dB)")
    path.write_text(drawing, encoding="utf-8")
    return (
        f"![PSNR over tube current](images/{path.name})\n\n*Fig. 5: PSNR over tube current, by tube voltage. "
        f"{some['data']}.*"
    )


def _marked(picture, pixels):
    """A grey picture in colours, the pixels framed in yellow."""
    coloured = picture[..., None].repeat(3, -1)
    for row, column in pixels.values():
        frame = np.s_[row - 4 : row + 5, column - 4 : column + 5]
        inside = coloured[row - 3 : row + 4, column - 3 : column + 4].copy()
        coloured[frame] = (255, 255, 0)
        coloured[row - 3 : row + 4, column - 3 : column + 4] = inside
    return coloured


def _kernel_picture(kernel, side):
    unit = kernel / np.abs(kernel).max()
    picture = np.rint(127.5 * (1 + np.sign(unit) * np.abs(unit) ** 0.5)).astype(np.uint8)
    times, spare = divmod(side, len(kernel))
    return np.pad(
        picture.repeat(times, 0).repeat(times, 1), (spare // 2, spare - spare // 2), constant_values=127
    )


def _grid(pictures, enlarged=1):
    """Pictures of one size in rows of five, white between them."""
    pictures = [picture.repeat(enlarged, 0).repeat(enlarged, 1) for picture in pictures]
    lines = [pictures[i : i + _COLUMNS] for i in range(0, len(pictures), _COLUMNS)]
    return _stack([_stack([np.moveaxis(p, 0, 1) for p in line]).swapaxes(0, 1) for line in lines])


def _stack(pictures):
    """Pictures below one another, filled up with white, coloured if one is; `(H, W)` or `(H, W, 3)` each."""
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [p if p.ndim == 3 else p[..., None].repeat(3, -1) for p in pictures]
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        rest = [(0, 0)] * (picture.ndim - 2)
        rows.append(np.pad(picture, [(0, _GAP), (0, width - picture.shape[1]), *rest], constant_values=255))
    return np.concatenate(rows)[:-_GAP]
