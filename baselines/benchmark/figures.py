"""The paper's figures again, on the digital torso: it shows no patient, so it may be shown anywhere."""

import functools
from dataclasses import dataclass

import numpy as np

from baselines.benchmark.drawing import crops_figure, dose_figure
from baselines.benchmark.tables import LOW_DOSE, in_full, titles
from kpn_tf.datasets.dose_curve import dose_curves
from kpn_tf.dose.series_noise import SeriesNoise, noise_like, simulate_low_dose
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import LOW_DOSE as LOW_DOSE_NAME
from kpn_tf.evaluation import Results
from kpn_tf.figures import structure_figure, write
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.phantom import torso
from kpn_tf.training.data.folders import DOSE

SIDE, PIXEL_MM = 512, 0.75
_NOISE = SeriesNoise(12.0, SPECTRA["soft"])

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
    opened, title_of = {}, titles(benchmark.plan.tables)
    for method in in_full(benchmark.plan.tables):
        if method == LOW_DOSE or not benchmark.row(method):
            continue
        try:
            if found := benchmark.opened(method):
                opened[title_of[method]] = found
        except ImportError as error:
            # Rows may come from a machine that has the extra.
            note(f"{method.name} in the figures: {error}", False)
    parts = [
        "## Figures",
        "Of the digital torso, whatever the tables were measured on: 512×512, 12 HU of noise at the normal dose, a "
        "quarter of that dose simulated.",
        _loss_and_kernels(opened, folder, output.stem),
    ]
    parts += [_crops(crop, opened, folder, output.stem) for crop in CROPS]
    curves = {
        title_of[method]: row for method in in_full(benchmark.plan.tables) if (row := benchmark.curve(method))
    }
    if curves:
        parts.append(_dose_curves(curves, folder, output.stem))
    return "\n\n".join(parts) + "\n"


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
    window = WINDOWS[crop.window]
    path = folder / f"{stem}_fig{crop.figure}.png"
    write(crops_figure(shown, window), path)
    return (
        f"![{crop.title}: {'; '.join(shown)}](images/{path.name})\n\n*Fig. {crop.figure}: {crop.title}, "
        f"{window.low_hu:g} to {window.high_hu:g} HU, by every method that is finished.*"
    )


def _loss_and_kernels(opened, folder, stem):
    networks = {title: network for title, (_, network) in opened.items() if hasattr(network, "kernels_at")}
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
