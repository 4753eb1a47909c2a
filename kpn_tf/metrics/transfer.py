"""How sharp a disc of a given contrast is: its task transfer function, from the edge all around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# Edge profiles are binned at this share of a pixel (Richard et al. 2012 take a tenth as well).
_BINS_PER_PIXEL = 10

# The edge is seen this share of the radius to both sides, of which the outer half fades out: the spread of the
# edge must lie within the inner half.
_REACH = 0.8
_TAPER = 0.5

# Frequencies go on to twice that of the pixels: all around a disc, an edge is sampled more finely than they are.
_NYQUISTS = 2.0

# A disc is there if its contrast is so many standard errors; the largest of white noise has three or four.
_STANDS_OUT = 6.0


@dataclass(frozen=True)
class TaskTransfer:
    """The task transfer function of a disc: for this contrast, at this noise, of this slice only.

    Args:
        frequency_per_mm: `(n,)` from 0 on.
        ttf: `(n,)`, 1 at frequency 0.
        contrast_hu: Mean inside minus mean outside, away from the edge.
    """

    frequency_per_mm: np.ndarray
    ttf: np.ndarray
    contrast_hu: float

    def frequency_at(self, level: float) -> float:
        """Where it first falls to a level, in 1/mm: 0.5 gives f50, 0.1 gives f10; NaN where it never does."""
        below = np.flatnonzero(self.ttf <= level)
        if below.size == 0 or below[0] == 0:
            return float("nan")
        i = below[0]
        f, t = self.frequency_per_mm[i - 1 : i + 1], self.ttf[i - 1 : i + 1]
        return float(f[0] + (t[0] - level) / (t[0] - t[1]) * (f[1] - f[0]))


def task_transfer(
    slice_hu: ArrayLike,
    pixel_spacing_mm: float | Sequence[float],
    centre: tuple[float, float],
    radius_mm: float,
) -> TaskTransfer:
    """Task transfer function from a round insert.

    Every pixel around the edge, by its distance from it in bins of a tenth of a pixel, is the edge spread function;
    its difference is the line spread function, seen through a window that is flat up to 0.4 radii from the edge
    and fades out at 0.8; the magnitude of its Fourier transform, 1 at frequency 0, is the result. The low-pass of
    bins and differences is divided out, each `sinc(f · bin)`.

    Of a disc, not a straight edge: where the blur is not small against the radius, its curvature shows (at a
    Gaussian blur of a tenth of the radius less than 1 %). Noise adds to the magnitude: average slices first.

    Args:
        slice_hu: `(H, W)` in HU; around the insert, 1.8 radii from its centre, nothing else.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        centre: `(row, column)` of the insert in pixels; fractions count.
        radius_mm: Its radius.

    Returns:
        `TaskTransfer`.

    Raises:
        ValueError: If the disc of 1.8 radii does not lie in the slice, or is fewer than 8 pixels wide.

    Source: Richard et al., "Towards task-based assessment of CT performance: system and object MTF across different
        reconstruction algorithms", Med. Phys. 39 (2012); AAPM Task Group Report 233 (2019).
    """
    distance_mm, values_hu, spacing_mm = _around(slice_hu, pixel_spacing_mm, centre, radius_mm)
    bin_mm = min(spacing_mm) / _BINS_PER_PIXEL
    half = int(_REACH * radius_mm / bin_mm)
    index = np.rint(distance_mm / bin_mm).astype(int) + half  # bins centred on the edge
    seen = (index >= 0) & (index <= 2 * half)
    count = np.bincount(index[seen], minlength=2 * half + 1)
    filled = count > 0
    total = np.bincount(index[seen], values_hu[seen], minlength=2 * half + 1)
    # Bins without a pixel are taken from their neighbours.
    edge_hu = np.interp(np.arange(2 * half + 1), np.flatnonzero(filled), total[filled] / count[filled])
    line = -np.diff(edge_hu)
    at = (np.arange(2 * half) + 0.5 - half) / half  # -1 to 1
    line *= np.cos(np.pi / 2 * np.clip((np.abs(at) - _TAPER) / (1 - _TAPER), 0, 1)) ** 2
    frequency = np.linspace(0, _NYQUISTS * 0.5 / max(spacing_mm), 201)
    wave = np.exp(-2j * np.pi * frequency[:, None] * at * half * bin_mm)
    magnitude = np.abs(wave @ line) / np.sinc(frequency * bin_mm) ** 2
    plain = _TAPER * _REACH * radius_mm
    inside, outside = values_hu[distance_mm < -plain], values_hu[distance_mm > plain]
    return TaskTransfer(frequency, magnitude / magnitude[0], float(inside.mean() - outside.mean()))


def fitted_disc(
    slice_hu: ArrayLike,
    pixel_spacing_mm: float | Sequence[float],
    centre: tuple[float, float],
    radius_mm: float,
) -> tuple[tuple[float, float], float]:
    """Where an insert lies, to a fraction of a pixel: least squares of a disc with a soft edge.

    Args:
        slice_hu: `(H, W)` in HU.
        pixel_spacing_mm: `(rows, columns)` distance between pixels in mm, or one number for both.
        centre: `(row, column)` in pixels, within a third of the radius of the truth.
        radius_mm: The radius, to a fifth.

    Returns:
        `(row, column)` in pixels, and the radius in mm.

    Raises:
        ValueError: As `task_transfer`, or if no disc is found there.
    """
    _, values_hu, spacing_mm = _around(slice_hu, pixel_spacing_mm, centre, radius_mm)
    inside = _within(np.shape(slice_hu), spacing_mm, centre, (1 + _REACH) * radius_mm)
    y, x = (n * mm for n, mm in zip(np.nonzero(inside), spacing_mm, strict=True))
    start = np.multiply(centre, spacing_mm)
    (y0, x0), radius, soft = start, radius_mm, max(spacing_mm)
    for _ in range(50):
        dy, dx = y - y0, x - x0
        r = np.maximum(np.hypot(dy, dx), 1e-9)
        profile = np.tanh((radius - r) / soft)
        # Background and contrast are linear, solved for exactly; the rest takes a Gauss-Newton step.
        linear = np.stack([np.ones_like(r), (1 + profile) / 2], axis=1)
        background_hu, contrast_hu = np.linalg.lstsq(linear, values_hu, rcond=None)[0]
        slope = contrast_hu / 2 * (1 - profile**2) / soft
        jacobian = np.stack([slope * dy / r, slope * dx / r, slope, *linear.T], axis=1)
        residual = values_hu - linear @ [background_hu, contrast_hu]
        step = np.linalg.lstsq(jacobian, residual, rcond=None)[0][:3]
        y0, x0, radius = y0 + step[0], x0 + step[1], radius + step[2]
        if not (np.hypot(y0 - start[0], x0 - start[1]) < radius_mm / 2 and abs(radius / radius_mm - 1) < 0.5):
            break
        if np.abs(step).max() < 1e-6 * radius_mm:
            if not abs(contrast_hu) > _STANDS_OUT * residual.std() / residual.size**0.5:
                break
            return (float(y0 / spacing_mm[0]), float(x0 / spacing_mm[1])), float(radius)
    raise ValueError(
        f"Expected a disc of {radius_mm:g} mm radius near row {centre[0]:g}, column {centre[1]:g}. "
        "Received: none that stands out; give a closer centre, or average slices to less noise"
    )


def _around(slice_hu, pixel_spacing_mm, centre, radius_mm):
    """Distances of the pixels around an insert from its edge in mm, outside positive, and their HU."""
    slice_hu = np.asarray(slice_hu, np.float64)
    spacing_mm = np.broadcast_to(np.asarray(pixel_spacing_mm, np.float64), (2,))
    reach = (1 + _REACH) * radius_mm / spacing_mm  # pixels
    fits = slice_hu.ndim == 2 and all(
        reach[i] <= centre[i] <= slice_hu.shape[i] - 1 - reach[i] for i in range(slice_hu.ndim)
    )
    if not fits or radius_mm < 4 * max(spacing_mm):
        raise ValueError(
            "Expected an insert of at least 4 pixels radius with 0.8 radii of background in the slice. "
            f"Received: {radius_mm:g} mm at {tuple(centre)} in {slice_hu.shape}, pixels of {spacing_mm} mm"
        )
    inside = _within(slice_hu.shape, spacing_mm, centre, (1 + _REACH) * radius_mm)
    y, x = ((n - c) * mm for n, c, mm in zip(np.nonzero(inside), centre, spacing_mm, strict=True))
    return np.hypot(y, x) - radius_mm, slice_hu[inside], spacing_mm


def _within(shape, spacing_mm, centre, reach_mm):
    y, x = ((np.arange(n) - c) * mm for n, c, mm in zip(shape, centre, spacing_mm, strict=True))
    return np.hypot(y[:, None], x) <= reach_mm
