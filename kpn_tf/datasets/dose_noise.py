"""Noise before and after denoising, without a reference: its strength and its spectrum in flat tissue."""

from dataclasses import dataclass

import numpy as np

from kpn_tf.evaluation import LOW_DOSE, DenoiserError
from kpn_tf.metrics import flat_regions, mean_frequency, noise_power_spectrum, regional_noise_std_hu

NORMAL_DOSE = "normal dose"

# Boxes of 15 mm resolve 1/15 per mm; their planes take a tenth of the power at 0.1 per mm and more below.
FREQUENCIES_PER_MM = tuple((np.arange(2, 21) / 20).tolist())


@dataclass(frozen=True)
class NoiseRow:
    """Noise of one denoiser's output, or of one dose: means over slices, NaN where there is nothing to measure.

    Args:
        name: The denoiser, "low dose" or "normal dose".
        slices: How many have flat tissue.
        noise_std_hu: Standard deviation about a plane.
        mean_frequency_per_mm: Centre of gravity of the radial spectrum; it falls as noise becomes blotchy.
        shift_hu: Mean minus that of the low dose in the same regions; NaN for the normal dose.
        spectrum: Radial noise power spectrum in HU²·mm² at `FREQUENCIES_PER_MM`; NaN above the Nyquist
            frequency.

    Source: AAPM Report 233, "Performance evaluation of computed tomography systems", 2019, for the mean frequency.
    """

    name: str
    slices: int
    noise_std_hu: float
    mean_frequency_per_mm: float
    shift_hu: float
    spectrum: tuple[float, ...]


@dataclass(frozen=True)
class NoiseTable:
    """Noise of both doses and of every denoiser.

    Args:
        data_name: What was measured.
        patients: How many there are.
        rows: `NoiseRow`s: the low dose, every denoiser, the normal dose.
    """

    data_name: str
    patients: int
    rows: tuple[NoiseRow, ...]

    def to_markdown(self):
        """The rows as a table to read, under a paragraph that says what they mean."""
        lines = [
            f"**{self.data_name}**: {self.patients} patients. In the flattest soft tissue (15 mm boxes) of each "
            "low-dose slice, before and after; of the normal dose in that of its own slices. Noise SD about a "
            "plane; mean frequency of its radial power spectrum; HU shift against the low dose. Means over slices.",
            "",
            "| | slices | noise SD (HU) | mean frequency (1/mm) | HU shift |",
            "|---|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            cells = [
                "–" if np.isnan(value) else f"{value:.{digits}f}"
                for value, digits in (
                    (row.noise_std_hu, 1),
                    (row.mean_frequency_per_mm, 3),
                    (row.shift_hu, 2),
                )
            ]
            lines.append("| " + " | ".join([row.name, str(row.slices), *cells]) + " |")
        return "\n".join(lines) + "\n"


def measure_noise(denoisers, unpaired, *, data_name):
    """Measures both doses and what every denoiser makes of the low dose.

    The regions are the flattest of the noisy slice itself, so its noise reads low, by some 2 to 10 % in slices of
    448 x 512; both doses are treated alike. All of this can show that noise is gone, not that structure is still
    there.

    Args:
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name.
        unpaired: `Unpaired`s; read once, one at a time.
        data_name: Names the data in the table.

    Returns:
        A `NoiseTable`.

    Raises:
        DenoiserError: If a denoiser returns another shape, NaN or infinity.
        ValueError: If there are no slices, or a denoiser is called like one of the doses.
    """
    if taken := {LOW_DOSE, NORMAL_DOSE} & set(denoisers):
        raise ValueError(
            f"Expected denoisers by names other than those of the doses. Received: {sorted(taken)}"
        )
    records, patients = {name: [] for name in (LOW_DOSE, *denoisers, NORMAL_DOSE)}, set()
    for one in unpaired:
        patients.add(one.patient)
        regions = flat_regions(one.low_hu, one.low_spacing_mm)
        outputs = {name: _denoised(name, denoiser, one) for name, denoiser in denoisers.items()}
        for name, slice_hu in {LOW_DOSE: one.low_hu, **outputs}.items():
            records[name].append(_record(slice_hu, regions, one.low_spacing_mm, one.low_hu))
        normal_regions = flat_regions(one.normal_hu, one.normal_spacing_mm)
        records[NORMAL_DOSE].append(_record(one.normal_hu, normal_regions, one.normal_spacing_mm, None))
    if not patients:
        raise ValueError(f"Expected at least one slice in {data_name}. Received: none; check its folder")
    return NoiseTable(data_name, len(patients), tuple(_row(name, of_one) for name, of_one in records.items()))


def _denoised(name, denoiser, one):
    denoised_hu = np.asarray(denoiser(np.array(one.low_hu, np.float32)))
    if denoised_hu.shape != one.low_hu.shape or not np.isfinite(denoised_hu).all():
        raise DenoiserError(
            f"Expected a finite slice of shape {one.low_hu.shape} from denoiser {name!r} on slice {one.name}. "
            f"Received: shape {denoised_hu.shape}, {denoised_hu.dtype}"
        )
    return denoised_hu


def _record(slice_hu, regions, spacing_mm, low_hu):
    """SD, mean frequency, shift and spectrum in one array; NaN without regions."""
    if not regions:
        return np.full(3 + len(FREQUENCIES_PER_MM), np.nan)
    boxes_hu = np.stack([np.asarray(slice_hu, np.float64)[region] for region in regions])  # (n, h, w)
    frequency, density = noise_power_spectrum(boxes_hu, spacing_mm)
    spectrum = np.interp(FREQUENCIES_PER_MM, frequency, density, left=np.nan, right=np.nan)
    shift_hu = np.nan
    if low_hu is not None:
        shift_hu = np.mean([np.mean(slice_hu[region] - low_hu[region]) for region in regions])
    grain_per_mm = mean_frequency(frequency, density)
    return np.array([regional_noise_std_hu(slice_hu, regions), grain_per_mm, shift_hu, *spectrum])


def _row(name, records):
    records = np.stack(records)  # (slices, 3 + frequencies)
    known = ~np.isnan(records)
    count = known.sum(axis=0)
    total = np.where(known, records, 0).sum(axis=0)
    means = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0).tolist()
    return NoiseRow(name, int(count[0]), *means[:3], tuple(means[3:]))
