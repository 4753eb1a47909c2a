"""Any callable HU -> HU over pairs of low and normal dose, every slice measured."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kpn_tf.evaluation.table import SSIM_FLAVOUR, Results
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import flat_regions, psnr, regional_noise_std_hu, rmse_hu, ssim

LOW_DOSE = "low dose"


class DenoiserError(RuntimeError):
    """A denoiser failed on a slice or returned what is no denoised slice; the message names both."""


class Place(NamedTuple):
    """Where a slice lies: which series, its index in order of position, and the position in mm along the normal."""

    series: str
    index: int
    position_mm: float


@dataclass(frozen=True)
class Pair:
    """One slice in two doses.

    Args:
        low_hu: `(H, W)` in HU, what denoisers see.
        normal_hu: `(H, W)` in HU, their reference.
        patient: Whose slice it is; the table has a row per patient.
        name: Names the slice in errors and in the JSON.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
        neighbours: For denoisers that see them, what lies beside the low-dose slice: as of
            `kpn_tf.denoiser.Denoiser`, for as many slices as any of them sees.
        place: `Place` of the low-dose slice, where it is known.

    Raises:
        ValueError: If the slices differ in shape or hold values that are not finite.
    """

    low_hu: np.ndarray = field(repr=False)
    normal_hu: np.ndarray = field(repr=False)
    patient: str
    name: str
    pixel_spacing_mm: tuple[float, float]
    neighbours: tuple = field(default=(), repr=False)
    place: Place | None = None

    def __post_init__(self):
        low_hu, normal_hu = np.asarray(self.low_hu), np.asarray(self.normal_hu)
        if low_hu.ndim != 2 or low_hu.shape != normal_hu.shape:
            raise ValueError(
                f"Expected two slices of one shape (H, W) in {self.name}. "
                f"Received: {low_hu.shape} and {normal_hu.shape}"
            )
        if not (np.isfinite(low_hu).all() and np.isfinite(normal_hu).all()):
            raise ValueError(f"Expected finite HU in {self.name}. Received: NaN or infinity")

    def nearest(self, count):
        """So many of the neighbours, those around the slice; none where there are fewer."""
        spare = (len(self.neighbours) - count) // 2
        return self.neighbours[spare : len(self.neighbours) - spare] if spare >= 0 else ()


def evaluate(denoisers, pairs, conventions=("soft",), *, data_name):
    """Denoises the low dose of every pair and compares with the normal dose.

    Flat regions are found in the normal-dose slice. There, the HU shift is the mean of the denoised minus
    the mean of the normal-dose slice (the row of the low dose shows what of it is in the data), and the
    noise is the root mean square of the standard deviations about a plane.

    Args:
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name.
        pairs: `Pair`s; read once, one at a time.
        conventions: Keys of `kpn_tf.hounsfield.WINDOWS`.
        data_name: Names the data in every table.

    Returns:
        `Results`, whose first row is always the low dose itself.

    Raises:
        DenoiserError: If a denoiser raises or returns another shape, NaN or infinity.
        ValueError: If there are no pairs, a convention is unknown, or a denoiser is called "low dose".
    """
    unknown = [name for name in conventions if name not in WINDOWS]
    if unknown or not conventions or isinstance(conventions, str):
        raise ValueError(f"Expected a tuple of conventions from {sorted(WINDOWS)}. Received: {conventions!r}")
    if LOW_DOSE in denoisers:
        raise ValueError(f"Expected denoisers by names other than {LOW_DOSE!r}. Received: {list(denoisers)}")
    records, normal_noise_hu = {name: [] for name in (LOW_DOSE, *denoisers)}, []
    for pair in pairs:
        regions = flat_regions(pair.normal_hu, pair.pixel_spacing_mm)
        normal_noise_hu.append(regional_noise_std_hu(pair.normal_hu, regions))
        records[LOW_DOSE].append(_record(LOW_DOSE, pair, pair.low_hu, regions, conventions, np.nan))
        for name, denoiser in denoisers.items():
            denoised_hu, seconds = denoise_pair(name, denoiser, pair)
            records[name].append(_record(name, pair, denoised_hu, regions, conventions, seconds))
    if not normal_noise_hu:
        raise ValueError(f"Expected at least one pair in {data_name}. Received: none; check its folder")
    slices = tuple(record for of_one in records.values() for record in of_one)
    return Results(data_name, tuple(conventions), slices, _mean(normal_noise_hu))


def denoise_pair(name, denoiser, pair):
    """Denoises the low dose of a pair and makes sure that a slice came back.

    Args:
        name: The denoiser's, for errors.
        denoiser: Callable `(H, W)` HU -> `(H, W)` HU; one with `slices` above 1 is also given the `neighbours`.
        pair: `Pair`.

    Returns:
        `(H, W)` in HU, and the seconds it took.

    Raises:
        DenoiserError: If the denoiser raises or returns another shape, NaN or infinity.
    """
    slices = getattr(denoiser, "slices", 1)
    among = {"neighbours": pair.nearest(slices - 1)} if slices > 1 else {}
    low_hu = np.array(pair.low_hu, np.float32)  # a copy: what a denoiser does to its input stays with it
    start = time.perf_counter()
    try:
        denoised_hu = np.asarray(denoiser(low_hu, **among))
    except (Exception, SystemExit) as error:
        raise DenoiserError(f"Denoiser {name!r} failed on slice {pair.name}: {error}") from error
    seconds = time.perf_counter() - start
    expected = f"Expected a slice of shape {low_hu.shape} from denoiser {name!r} on slice {pair.name}."
    if denoised_hu.shape != low_hu.shape:
        raise DenoiserError(f"{expected} Received shape: {denoised_hu.shape}")
    if denoised_hu.dtype.kind not in "fiu" or not np.isfinite(denoised_hu).all():
        raise DenoiserError(f"{expected} Received values that are no finite numbers ({denoised_hu.dtype})")
    return denoised_hu, seconds


def _record(name, pair, slice_hu, regions, conventions, seconds):
    record = {"denoiser": name, "patient": pair.patient, "slice": pair.name}
    for convention in conventions:
        record[f"psnr_{convention}_db"] = psnr(pair.normal_hu, slice_hu, convention=convention)
        record[f"ssim_{convention}"] = ssim(
            pair.normal_hu, slice_hu, convention=convention, flavour=SSIM_FLAVOUR
        )
    difference_hu = np.asarray(slice_hu, np.float64) - pair.normal_hu
    record["rmse_hu"] = rmse_hu(pair.normal_hu, slice_hu)
    record["mean_shift_hu"] = _mean([difference_hu[region].mean() for region in regions])
    record["noise_std_hu"] = regional_noise_std_hu(slice_hu, regions)
    record["seconds"] = seconds
    return record


def _mean(values):
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
