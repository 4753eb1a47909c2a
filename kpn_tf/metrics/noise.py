"""Noise of a slice measured in its flat soft tissue: standard deviation in HU, power spectrum in HU²·mm²."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# A box counts as soft tissue when the mean of each of its 5 mm cells does: means of cells keep their meaning
# under quarter-dose noise, where the extremes of single pixels no longer tell air and bone from noise.
# 0..150 HU reaches from unenhanced blood to contrast-enhanced liver.
_CELL_MM = 5.0
_CELLS = 3
_SOFT_TISSUE_HU = (0.0, 150.0)

# Regions up to a quarter noisier than the flattest 5 % are still "flat": noise varies by that much in a body.
_FLAT_RATIO = 1.25
# A phantom without noise has flat regions too: this is less than the noise of rounding to whole HU.
_FLAT_MARGIN_HU = 0.1


def noise_std_hu(
    slice_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float], padding: ArrayLike | None = None
) -> float:
    """Noise of one slice, measured in the slice itself.

    The standard deviation about a fitted plane in every 15 mm soft-tissue box (one every 5 mm); the 5th
    percentile over the boxes, because most boxes hold anatomy as well as noise.

    Args:
        slice_hu: `(H, W)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        padding: `(H, W)` bool, true outside the field of view, or `None`.

    Returns:
        HU; NaN for a slice without a soft-tissue box (lung apices in a small field, air).

    Raises:
        ValueError: If the slice is not two-dimensional, or the spacing not positive.

    Example:

    >>> noise = np.random.default_rng(0).normal(50.0, 20.0, (256, 256))
    >>> 16 < noise_std_hu(noise, 1.0) < 20
    True
    """
    std_hu, soft, _ = _soft_tissue_boxes(slice_hu, pixel_spacing_mm, padding)
    return float(np.percentile(std_hu[soft], 5)) if soft.any() else float("nan")


def flat_noise_std_hu(
    slice_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float], padding: ArrayLike | None = None
) -> float:
    """Noise of one slice over all its flat boxes: what a multiple of the noise is to be measured against.

    Root mean square over the boxes whose standard deviation about a plane is at most 1.25 × `noise_std_hu` + 0.1 HU.
    The 5th percentile itself, and the boxes that `flat_regions` picks flattest first, lie a tenth below the noise where
    all of a slice is flat.

    Args:
        slice_hu: `(H, W)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        padding: `(H, W)` bool, true outside the field of view, or `None`.

    Returns:
        HU; NaN for a slice without a soft-tissue box.

    Raises:
        ValueError: If the slice is not two-dimensional, or the spacing not positive.

    Example:

    >>> noise = np.random.default_rng(0).normal(50.0, 20.0, (256, 256))
    >>> 19 < flat_noise_std_hu(noise, 1.0) < 20.5
    True
    """
    std_hu, soft, _ = _soft_tissue_boxes(slice_hu, pixel_spacing_mm, padding)
    if not soft.any():
        return float("nan")
    flat_hu = std_hu[soft & (std_hu <= _flat_limit_hu(std_hu[soft]))]
    return float(np.sqrt(np.mean(flat_hu**2)))


def flat_regions(
    slice_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float], padding: ArrayLike | None = None
) -> list[Any]:
    """The flattest 15 mm soft-tissue boxes of a slice, none overlapping another.

    Args:
        slice_hu: `(H, W)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        padding: `(H, W)` bool, true outside the field of view, or `None`.

    Returns:
        A list of `(row slice, column slice)`, flattest first and all of one size, whose standard deviation
        about a plane is at most 1.25 × `noise_std_hu` + 0.1 HU; `slice_hu[region]` is the box. Empty
        without soft tissue.

    Raises:
        ValueError: If the slice is not two-dimensional, or the spacing not positive.
    """
    std_hu, soft, cell = _soft_tissue_boxes(slice_hu, pixel_spacing_mm, padding)
    if not soft.any():
        return []
    rows, columns = np.nonzero(soft & (std_hu <= _flat_limit_hu(std_hu[soft])))
    taken = np.zeros(np.add(std_hu.shape, _CELLS - 1), bool)
    regions = []
    for i in np.argsort(std_hu[rows, columns], kind="stable"):
        box = tuple(slice(int(n), int(n) + _CELLS) for n in (rows[i], columns[i]))
        if not taken[box].any():
            taken[box] = True
            regions.append(tuple(slice(s.start * c, s.stop * c) for s, c in zip(box, cell, strict=True)))
    return regions


def _flat_limit_hu(std_hu):
    return _FLAT_RATIO * np.percentile(std_hu, 5) + _FLAT_MARGIN_HU


def _soft_tissue_boxes(slice_hu, pixel_spacing_mm, padding):
    """SD about a plane and a soft-tissue flag for every box of 3×3 cells, and the cell's size in pixels."""
    slice_hu = np.asarray(slice_hu, np.float64)
    spacing_mm = np.broadcast_to(np.asarray(pixel_spacing_mm, np.float64), (2,))
    if slice_hu.ndim != 2 or not (spacing_mm > 0).all():
        raise ValueError(
            "Expected a slice (H, W) and a positive pixel spacing in mm. "
            f"Received: shape {slice_hu.shape}, pixel spacing {pixel_spacing_mm}"
        )
    a, b = cell = tuple(max(1, round(_CELL_MM / mm)) for mm in spacing_mm)
    rows, columns = (n // c for n, c in zip(slice_hu.shape, cell, strict=True))
    if min(rows, columns) < _CELLS:
        return np.zeros((0, 0)), np.zeros((0, 0), bool), cell
    cells = slice_hu[: rows * a, : columns * b].reshape(rows, a, columns, b)
    mean = cells.mean((1, 3))  # (rows, columns)
    soft = (mean > _SOFT_TISSUE_HU[0]) & (mean < _SOFT_TISSUE_HU[1])
    if padding is not None:
        soft &= ~np.asarray(padding, bool)[: rows * a, : columns * b].reshape(cells.shape).any((1, 3))
    # Sums about 0 HU are exact enough: soft tissue has |HU| of the order of its noise.
    y, x = (np.arange(c) - (c - 1) / 2 for c in cell)
    total, squares = mean * (a * b), np.einsum("iajb,iajb->ij", cells, cells)
    moment_y = np.einsum("iajb,a->ij", cells, y)
    moment_x = np.einsum("iajb,b->ij", cells, x)

    def box_sum(values, weight_y=(1, 1, 1), weight_x=(1, 1, 1)):
        values = sum(w * values[i : i + rows - _CELLS + 1] for i, w in enumerate(weight_y))
        return sum(w * values[:, i : i + columns - _CELLS + 1] for i, w in enumerate(weight_x))

    height, width = _CELLS * a, _CELLS * b
    n = height * width
    slope_y = box_sum(moment_y) + a * box_sum(total, weight_y=(-1, 0, 1))
    slope_x = box_sum(moment_x) + b * box_sum(total, weight_x=(-1, 0, 1))
    # The sum of squared coordinates of `height` pixels about their centre is height·(height² - 1)/12.
    residual = (
        box_sum(squares)
        - box_sum(total) ** 2 / n
        - slope_y**2 / (n * (height**2 - 1) / 12)
        - slope_x**2 / (n * (width**2 - 1) / 12)
    )
    std_hu = np.sqrt(np.maximum(residual, 0) / (n - 3))  # three degrees of freedom went into the plane
    return std_hu, box_sum(soft) == _CELLS**2, cell


def regional_noise_std_hu(slice_hu: ArrayLike, regions: Sequence[Any]) -> float:
    """Noise of a slice in given regions: root mean square of the standard deviations about a plane.

    Args:
        slice_hu: `(H, W)` in HU.
        regions: Boxes of one size, as `flat_regions` finds them, perhaps in another dose of the same slice.

    Returns:
        HU; NaN without regions.
    """
    if not regions:
        return float("nan")
    return boxes_noise_std_hu(np.stack([np.asarray(slice_hu, np.float64)[region] for region in regions]))


def boxes_noise_std_hu(boxes_hu: np.ndarray) -> float:
    """Noise of boxes that are cut out already, `(n, h, w)` in HU: as `regional_noise_std_hu`."""
    n, h, w = boxes_hu.shape
    return float(np.sqrt((planes_removed(boxes_hu) ** 2).sum() / (n * (h * w - 3))))


def planes_removed(regions_hu):
    """Each of `(n, h, w)` regions minus its least-squares plane."""
    _, h, w = regions_hu.shape
    y, x = np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    noise = regions_hu - regions_hu.mean((1, 2), keepdims=True)
    slope_y = np.einsum("nhw,h->n", noise, y) / (w * (y**2).sum())
    slope_x = np.einsum("nhw,w->n", noise, x) / (h * (x**2).sum())
    return noise - slope_y[:, None, None] * y[:, None] - slope_x[:, None, None] * x


def noise_power_spectrum_2d(
    regions_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Noise power spectrum of equally sized flat regions, each about its own fitted plane.

    `NPS(f) = Δy·Δx / (h·w) · mean |DFT(region - plane)|²`: its sum times the area of a frequency bin is the
    mean variance of the detrended regions. The plane takes what it can reach: of white noise, 30 % of the first
    frequency of each axis (`3/π²`), 8 % of the second, and nothing off the axes.

    Args:
        regions_hu: `(n, h, w)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.

    Returns:
        `((rows_per_mm, columns_per_mm), nps)`: the frequency axes `(h,)` and `(w,)` in `numpy.fft.fftfreq`
        order, and the spectrum `(h, w)` in HU²·mm².

    Raises:
        ValueError: If the regions are not a stack `(n, h, w)` with n ≥ 1 and h, w ≥ 2.

    Source: ICRU Report 87, "Radiation dose and image-quality assessment in computed tomography", 2012.
    """
    regions_hu = np.asarray(regions_hu, np.float64)
    if regions_hu.ndim != 3 or regions_hu.shape[0] < 1 or min(regions_hu.shape[1:]) < 2:
        raise ValueError(f"Expected regions (n, h, w), n >= 1, h, w >= 2. Received shape: {regions_hu.shape}")
    _, h, w = regions_hu.shape
    dy, dx = np.broadcast_to(np.asarray(pixel_spacing_mm, np.float64), (2,))
    noise = planes_removed(regions_hu)
    nps = dy * dx / (h * w) * np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
    return (np.fft.fftfreq(h, dy), np.fft.fftfreq(w, dx)), nps


def noise_power_spectrum(
    regions_hu: ArrayLike, pixel_spacing_mm: float | Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Radial noise power spectrum: the mean of `noise_power_spectrum_2d` over rings one frequency bin wide.

    Args:
        regions_hu: `(n, h, w)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.

    Returns:
        `(frequency_per_mm, nps)`: the mean frequency and the mean spectrum in HU²·mm² of each ring, up to the
        Nyquist frequency of the coarser axis. Zero frequency, which detrending empties, is left out.
    """
    (fy, fx), nps = noise_power_spectrum_2d(regions_hu, pixel_spacing_mm)
    frequency = np.hypot(fy[:, None], fx[None, :])  # (h, w)
    width = max(fy[1], fx[1])
    nyquist = min(np.abs(fy).max(), np.abs(fx).max())
    ring = np.rint(frequency / width).astype(int)
    kept = (ring > 0) & (frequency <= nyquist + width / 2)
    count = np.bincount(ring[kept])
    filled = count > 0
    return (
        np.bincount(ring[kept], frequency[kept])[filled] / count[filled],
        np.bincount(ring[kept], nps[kept])[filled] / count[filled],
    )


def mean_frequency(frequency_per_mm: ArrayLike, nps: ArrayLike) -> float:
    """Mean frequency of a radial noise power spectrum, `Σ f·NPS(f) / Σ NPS(f)`: coarse grain is low.

    Args:
        frequency_per_mm: `(n,)`, evenly spaced.
        nps: `(n,)`, in any unit.

    Returns:
        1/mm; NaN of a spectrum that is 0.

    Source: AAPM Task Group Report 233, "Performance evaluation of computed tomography systems" (2019).

    Example:

    >>> mean_frequency([0.1, 0.2, 0.3], [1.0, 2.0, 1.0])
    0.2
    """
    total = np.sum(nps)
    return float(np.dot(frequency_per_mm, nps) / total) if total > 0 else float("nan")
