"""PSNR and SSIM of denoisers as the open benchmark for low-dose CT defines them, beside what it published."""

import json
from dataclasses import dataclass

import numpy as np

from kpn_tf.datasets.ldct_benchmark import REGIONS, region_of
from kpn_tf.evaluation import LOW_DOSE, Results, denoise_pair
from kpn_tf.evaluation.table import finite
from kpn_tf.metrics.fidelity import similarity

# Two computations of the published low dose that differ by more are of other slices, or by another measure.
_SAME_DB, _SAME_SSIM = 0.02, 0.002


def scores(normal_hu, slice_hu, window):
    """PSNR and SSIM of a slice; the window becomes 0 to 1, which is the data range.

    SSIM is that of uniform 7×7 windows with sample covariance. `kpn_tf.metrics.ssim` does not shift the window to
    zero, so that its numbers differ.

    Args:
        normal_hu: `(H, W)`, the normal dose in HU.
        slice_hu: `(H, W)`, what is compared.
        window: `kpn_tf.hounsfield.Window` to clip to.

    Returns:
        PSNR in dB (infinity where the clipped slices are equal), and SSIM.

    Source: `compute_metric` in `ldctbench/evaluate/utils.py` of https://github.com/eeulig/ldct-benchmark, which calls
    `structural_similarity` of scikit-image with its defaults.
    """
    x, y = (
        np.clip((np.asarray(hu, np.float64) - window.low_hu) / window.width_hu, 0, 1)
        for hu in (normal_hu, slice_hu)
    )
    mean_squared_error = np.mean((x - y) ** 2)
    psnr_db = -10 * np.log10(mean_squared_error) if mean_squared_error else np.inf
    return float(psnr_db), similarity(x, y, "uniform7")


@dataclass(frozen=True)
class LdctTable:
    """Scores of the low dose and of every denoiser, by region.

    Args:
        data_name: What was compared.
        slices: One record per denoiser and slice: `denoiser`, `patient`, `slice`, `psnr_db`, `ssim`.
    """

    data_name: str
    slices: tuple[dict, ...]

    @property
    def regions(self):
        """The `Region`s that there are slices of."""
        present = {record["patient"][0] for record in self.slices}
        return [region for letter, region in REGIONS.items() if letter in present]

    def rows(self, region):
        """`kpn_tf.evaluation.Row` of each denoiser over all slices of a region."""
        return [row for row in self._results(region).rows if row.patient is None]

    def missing(self, region):
        """What keeps the rows of a region from being compared with the published ones, or `None`."""
        slices = self._counts(region)
        if slices != region.slices:
            present = [patient for patient, count in slices.items() if count]
            return (
                f"{sum(slices.values())} of {sum(region.slices.values())} slices, of {len(present)} of "
                f"{len(region.slices)} patients: the published numbers are of other slices"
            )
        low = self.rows(region)[0].means
        psnr_db, ssim = region.published[LOW_DOSE]
        if abs(low["psnr_db"] - psnr_db) > _SAME_DB or abs(low["ssim"] - ssim) > _SAME_SSIM:
            return "the low dose itself does not have its published numbers: these are other images"
        return None

    def to_json(self):
        """The meaning of the numbers, rows and published numbers by region, and every slice."""
        regions = {
            region.name: {
                "window_hu": [region.window.low_hu, region.window.high_hu],
                "slices": self._counts(region),
                "slices_published": region.slices,
                "not_comparable": self.missing(region),
                "rows": [
                    {
                        "denoiser": row.denoiser,
                        "slices": row.slices,
                        "means": row.means,
                        "intervals": row.intervals,
                    }
                    for row in self.rows(region)
                ],
                "published": {
                    name: {"psnr_db": psnr_db, "ssim": ssim}
                    for name, (psnr_db, ssim) in region.published.items()
                },
            }
            for region in self.regions
        }
        content = {"data": self.data_name, "regions": regions, "per_slice": list(self.slices)}
        return json.dumps(finite(content), indent=2, allow_nan=False)

    def to_markdown(self):
        """The rows and the published ones as a table to read, under a paragraph that says what they mean."""
        windows = "; ".join(
            f"{region.name} [{region.window.low_hu:g}, {region.window.high_hu:g}] HU"
            for region in self.regions
        )
        lines = [
            f"**{self.data_name}**: PSNR and SSIM on the full frame, clipped to the window of the region ({windows}), "
            "which becomes 0 to 1; SSIM uniform 7×7. Means over all slices of a region; in brackets the 95 % bootstrap "
            "interval over slices. Published: Eulig et al., Medical Physics 2024.",
            "",
        ]
        for region in self.regions:
            missing = self.missing(region)
            lines.append(
                f"- {region.name}: " + (f"**not comparable**: {missing}" if missing else "comparable")
            )
        titles = [f"{region.name} {metric}" for region in self.regions for metric in ("PSNR (dB)", "SSIM")]
        lines += ["", "| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
        for rows in zip(*map(self.rows, self.regions), strict=True):
            cells = [_cell(row, metric) for row in rows for metric in ("psnr_db", "ssim")]
            lines.append("| " + " | ".join([rows[0].denoiser, *cells]) + " |")
        for name in self.regions[0].published:
            cells = [f"{value:.3f}" for region in self.regions for value in region.published[name]]
            lines.append("| " + " | ".join([f"published: {name}", *cells]) + " |")
        return "\n".join(lines) + "\n"

    def _results(self, region):
        records = tuple(record for record in self.slices if region_of(record["patient"]) is region)
        return Results(self.data_name, (), records, float("nan"))

    def _counts(self, region):
        """How many slices of each test patient were compared."""
        low = [record["patient"] for record in self.slices if record["denoiser"] == LOW_DOSE]
        return {patient: low.count(patient) for patient in region.slices}


def compare(denoisers, pairs, *, data_name):
    """Scores the low dose and what every denoiser makes of it.

    Args:
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name.
        pairs: `Pair`s of `ldct_benchmark`; read once, one at a time.
        data_name: Names the data in the table.

    Returns:
        An `LdctTable`.

    Raises:
        DenoiserError: If a denoiser raises or returns another shape, NaN or infinity.
        ValueError: If there are no pairs, or a denoiser is called "low dose".
    """
    if LOW_DOSE in denoisers:
        raise ValueError(f"Expected denoisers by names other than {LOW_DOSE!r}. Received: {list(denoisers)}")
    records = {name: [] for name in (LOW_DOSE, *denoisers)}
    for pair in pairs:
        outputs = {name: denoise_pair(name, denoiser, pair)[0] for name, denoiser in denoisers.items()}
        for name, slice_hu in {LOW_DOSE: pair.low_hu, **outputs}.items():
            psnr_db, ssim = scores(pair.normal_hu, slice_hu, region_of(pair.patient).window)
            records[name].append(
                {
                    "denoiser": name,
                    "patient": pair.patient,
                    "slice": pair.name,
                    "psnr_db": psnr_db,
                    "ssim": ssim,
                }
            )
    if not records[LOW_DOSE]:
        raise ValueError(f"Expected at least one pair in {data_name}. Received: none; check its folder")
    return LdctTable(data_name, tuple(record for of_one in records.values() for record in of_one))


def _cell(row, metric):
    low, high = row.intervals[metric]
    return f"{row.means[metric]:.3f} [{low:.3f}, {high:.3f}]"
