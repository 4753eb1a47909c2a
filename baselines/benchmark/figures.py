"""The paper's figures again, on the digital torso: it shows no patient, so it may be shown anywhere."""

import functools
from dataclasses import dataclass

import numpy as np

from baselines.benchmark.drawing import crops_figure, dose_figure
from baselines.benchmark.quality_tables import line, lines_of
from baselines.benchmark.tables import LOW_DOSE, in_full, methods, titles
from kpn_tf.datasets.dose_curve import dose_curves
from kpn_tf.dose.series_noise import SeriesNoise, noise_like, simulate_low_dose
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import LOW_DOSE as LOW_DOSE_NAME
from kpn_tf.evaluation import Results
from kpn_tf.figures import structure_figure, write
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import kernels_by_class
from kpn_tf.phantom import torso
from kpn_tf.training.data.folders import DOSE

SIDE, PIXEL_MM = 512, 0.75
_NOISE = SeriesNoise(12.0, SPECTRA["soft"])

# Pixels of each class whose kernels are told in numbers; the classes in the order of Fig. 2.
KERNEL_PIXELS = 400
_CLASSES = ("flat", "edge", "fine")

# Pixels around a crop that a method sees and the figure does not.
_MARGIN = 32


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


def figures(benchmark, output, note):
    """Draws what is finished into `images/` beside the page.

    Args:
        benchmark: `baselines.benchmark.rows.Benchmark`.
        output: Path of the page, which names the files.
        note: Callback `(line, failure)` for every method that cannot be drawn.

    Returns:
        Markdown that shows and explains them.
    """
    folder = output.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    tables = benchmark.shown()
    opened, title_of = {}, titles(tables)
    for method in methods(tables):
        drawn = method in in_full(tables) or method.kernel_size
        if method == LOW_DOSE or not drawn or not benchmark.row(method):
            continue
        try:
            if found := benchmark.opened(method):
                opened[method] = found
        except ImportError as error:
            # Rows may come from a machine that has the extra.
            note(f"{method.name} in the figures: {error}", False)
    kernels = {
        method: predicting
        for method, (denoise, network) in opened.items()
        if hasattr(predicting := network or denoise, "kernels_at")
    }
    # Those of other sides, in numbers alone.
    pictured = methods([table for table in tables if table.in_full or table.seeds])
    parts = [
        "## Figures",
        "Of the digital torso, whatever the tables were measured on: 512×512, 12 HU of noise at the normal dose, a "
        "quarter of that dose simulated.",
        _loss_and_kernels(
            {title_of[method]: kernels[method] for method in pictured if method in kernels},
            folder,
            output.stem,
        ),
    ]
    if kernels:
        parts.append(_kernels_in_numbers({title_of[method]: one for method, one in kernels.items()}))
    denoisers = {title_of[method]: opened[method][0] for method in in_full(tables) if method in opened}
    if denoisers:
        parts += [_crops(crop, denoisers, folder, output.stem) for crop in CROPS]
    curves = {title_of[method]: row for method in in_full(tables) if (row := benchmark.curve(method))}
    if curves:
        parts.append(_dose_curves(curves, folder, output.stem))
    return "\n\n".join(parts) + "\n"


@functools.cache
def _torso_truth():
    """The torso's middle slice without noise, `(H, W)` in HU."""
    return torso(SIDE, SIDE, 1, PIXEL_MM * 512 / SIDE).volume_hu[0]


@functools.cache
def _torso_pair():
    """The torso's middle slice at a quarter of the dose and at normal dose, `(H, W)` in HU."""
    truth_hu = _torso_truth()
    rng = np.random.default_rng(20210919)
    pixel_mm = PIXEL_MM * 512 / SIDE
    normal_hu = truth_hu + noise_like(truth_hu, pixel_mm, _NOISE.std_hu, _NOISE.spectrum, rng)
    return simulate_low_dose(normal_hu, pixel_mm, dose=DOSE, noise=_NOISE, rng=rng), normal_hu


def _crops(crop, denoisers, folder, stem):
    low_hu, normal_hu = _torso_pair()
    shown = {"low dose": crop.cut(low_hu)}
    for title, denoise in denoisers.items():
        denoised_hu = denoise(np.array(crop.cut(low_hu, _MARGIN), np.float32))
        shown[title] = denoised_hu[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    shown["normal dose"] = crop.cut(normal_hu)
    window = WINDOWS[crop.window]
    path = folder / f"{stem}_fig{crop.figure}.png"
    write(crops_figure(shown, window), path)
    return (
        f"![{crop.title}: {'; '.join(shown)}](images/{path.name})\n\n*Fig. {crop.figure}: {crop.title}, "
        f"{window.low_hu:g} to {window.high_hu:g} HU, by every method that is finished.*"
    )


def _loss_and_kernels(networks, folder, stem):
    # The margin is seen by the loss and the networks, and not shown.
    seen_low_hu, seen_normal_hu = (STRUCTURE.cut(slice_hu, _MARGIN) for slice_hu in _torso_pair())
    shown = np.s_[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    path = folder / f"{stem}_fig2.png"
    window = WINDOWS[STRUCTURE.window]
    figure = structure_figure(seen_low_hu, seen_normal_hu, networks, window=STRUCTURE.window, crop=shown)
    write(figure, path)
    caption = (
        f"Fig. 2: {STRUCTURE.title} at low and normal dose, {window.low_hu:g} to {window.high_hu:g} HU, and what the "
        "structure-aware loss weighs there: squared error blue, absolute error black, similarity orange. Framed: the "
        "pixels where absolute error (flat), squared error (edge) and similarity (fine) weigh most."
    )
    if networks:
        caption += (
            " Below, the kernels of each network there, each on a scale of its own by the root of the tap, white is "
            "zero."
        )
    return f"![Map of the loss, and kernels](images/{path.name})\n\n*{caption}*"


def _kernels_in_numbers(networks):
    """A table of the shapes of the kernels at flat, edge and fine pixels, by network."""
    headings = [f"{what}, {of}" for what in ("radius", "anisotropy") for of in _CLASSES]
    lines = [
        f"Kernels in numbers, at {KERNEL_PIXELS} pixels of each class all over that slice: effective radius (root of "
        f"the taps' second moments about the pixel, in pixels of {PIXEL_MM * 512 / SIDE:g} mm) and anisotropy (their "
        "longer axis over the shorter one). Classes by the loss's largest weight in the slice without noise. Median, "
        "in brackets the 10th and 90th percentile of the pixels; in a network that has learnt nothing all classes are "
        "alike.",
        "",
        *lines_of(["", *headings]),
    ]
    low_hu, _ = _torso_pair()
    for title, network in networks.items():
        shapes = kernels_by_class(network, low_hu, _torso_truth(), KERNEL_PIXELS)
        lines.append(line([title, *(_spread(shapes[of][what]) for what in (0, 1) for of in _CLASSES)]))
    return "\n".join(lines)


def _spread(values):
    if not len(values):
        return "–"
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _dose_curves(rows, folder, stem):
    some = next(iter(rows.values()))
    records = [
        {**record, "denoiser": LOW_DOSE_NAME if record["denoiser"] == LOW_DOSE_NAME else title}
        for title, row in rows.items()
        for record in row["records"]
    ]
    results = Results(some["data"], (some["convention"],), tuple(records), float("nan"))
    path = folder / f"{stem}_fig5.svg"
    figure = dose_figure(dose_curves(results, some["convention"]), f"PSNR {some['convention']} (dB)")
    write(figure, path)
    return (
        f"![PSNR over tube current](images/{path.name})\n\n*Fig. 5: PSNR over tube current, by tube voltage; "
        f"{some['data']}.*"
    )
