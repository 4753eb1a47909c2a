"""Normal-dose series: the noise they have of their own, a lower dose of them, and quieter targets from them.

What a normal-dose slice carries of noise is the floor of every target. A network trained on noisy targets
with noise of another texture learns that the targets' noise belongs to the picture, so both its strength
and its spectrum are measured, and thin noisy slices are averaged into slabs.
"""

from dataclasses import dataclass, replace

import numpy as np

from kpn_tf.dose.along_z import MOST_CORRELATION
from kpn_tf.dose.simulation import NoiseSpectrum, noise_field
from kpn_tf.metrics import flat_noise_std_hu, flat_regions, noise_power_spectrum, regional_noise_std_hu
from kpn_tf.metrics.noise_along_z import correlation, noise_products

# Below this frequency the anatomy of "flat" tissue outweighs the noise. The noise of filtered backprojection
# falls to nothing there, in proportion to the frequency: the ramp.
RAMP_BELOW_PER_MM = 0.2

# Rounding to whole HU alone is noise of 0.3 HU; below this a slice is synthetic.
NO_NOISE_HU = 0.1


class NoFlatTissueError(ValueError):
    """There is no flat soft tissue to measure noise in."""


class NoNoiseError(ValueError):
    """The flat soft tissue shows no noise: a synthetic series."""


@dataclass(frozen=True)
class SeriesNoise:
    """The noise a series has of its own.

    Args:
        std_hu: Standard deviation in the flat regions of soft tissue, HU, median over slices.
        spectrum: Its radial `NoiseSpectrum`.
        correlation: Of the noise of neighbouring slices, from 0 to `MOST_CORRELATION`.
    """

    std_hu: float
    spectrum: NoiseSpectrum
    correlation: float = 0.0


class NoiseMeter:
    """Measures the noise in the flat soft tissue of slices, one slice in memory at a time.

    Args:
        pixel_spacing_mm: Side of a pixel in mm.
    """

    def __init__(self, pixel_spacing_mm):
        self._pixel_spacing_mm = pixel_spacing_mm
        self._strengths, self._regions = [], []
        self._last, self._products = None, np.zeros(3)

    def add(self, slice_hu, *, beside_last):
        """Takes the next slice; the order is that along z.

        Args:
            slice_hu: `(H, W)` in HU.
            beside_last: Whether it is the neighbour of the slice before it: how their noise is correlated counts then.
        """
        boxes = flat_regions(slice_hu, self._pixel_spacing_mm)
        if beside_last:
            last_hu, last_boxes = self._last
            self._products += noise_products(last_hu, slice_hu, last_boxes)
        self._last = slice_hu, boxes
        self._strengths.append(flat_noise_std_hu(slice_hu, self._pixel_spacing_mm))
        self._regions += [np.array(slice_hu[box]) for box in boxes]

    def series(self):
        """The noise of all slices together.

        Returns:
            `SeriesNoise`, its strength the median.

        Raises:
            NoFlatTissueError: If no slice has a flat region of soft tissue.
            NoNoiseError: If these regions show no noise.
        """
        if not self._regions:
            raise NoFlatTissueError(
                f"Expected flat soft tissue (15 mm boxes) in at least one of {len(self._strengths)} slices to measure "
                "noise in. Received: none; state the noise and its spectrum instead"
            )
        std_hu = float(np.nanmedian(self._strengths))
        if std_hu < NO_NOISE_HU:
            raise NoNoiseError(
                f"Expected noise of {NO_NOISE_HU} HU or more in the flat soft tissue. Received: {std_hu:.2g} HU; "
                "a synthetic or denoised series is no normal dose"
            )
        frequency, density = noise_power_spectrum(np.stack(self._regions), self._pixel_spacing_mm)
        at_ramp = np.interp(RAMP_BELOW_PER_MM, frequency, density)
        density = np.where(frequency < RAMP_BELOW_PER_MM, at_ramp * frequency / RAMP_BELOW_PER_MM, density)
        spectrum = NoiseSpectrum(tuple(frequency), tuple(density))
        # Slices that overlap by more than three taps can give have what these can give; NaN is no pair of neighbours.
        correlated = np.clip(np.nan_to_num(correlation(self._products)), 0, MOST_CORRELATION)
        return SeriesNoise(std_hu, spectrum, float(correlated))

    def slices(self):
        """List of the `SeriesNoise` of each slice: that of the series, with the strength of `strengths_hu`.

        Raises:
            As `series`.
        """
        usual = self.series()
        return [replace(usual, std_hu=float(std_hu)) for std_hu in self.strengths_hu()]

    def strengths_hu(self):
        """Noise SD of each slice.

        The median of up to five neighbours: one slice has few boxes, and a step in tube current stays a step. A slice
        without flat tissue has what lies between its neighbours.

        Returns:
            `(n,)` in HU; `NO_NOISE_HU` at least.

        Raises:
            As `series`.
        """
        self.series()
        known = np.flatnonzero(np.isfinite(self._strengths))
        measured = np.array(self._strengths)[known]
        smooth = [np.median(measured[max(0, i - 2) : i + 3]) for i in range(len(measured))]
        return np.maximum(np.interp(np.arange(len(self._strengths)), known, smooth), NO_NOISE_HU)


def series_noise(volume_hu, pixel_spacing_mm):
    """Measures strength, texture and correlation along z of the noise in the flat soft tissue of a series.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position, all of one pixel spacing.
        pixel_spacing_mm: Side of a pixel in mm.

    Returns:
        `SeriesNoise`.

    Raises:
        NoFlatTissueError: If no slice has a flat region of soft tissue.
        NoNoiseError: If these regions show no noise.
    """
    return _measured(volume_hu, pixel_spacing_mm).series()


def noise_along_z(volume_hu, pixel_spacing_mm):
    """Measures the noise of each slice of a series: tube current and thickness may change along it.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position, all of one pixel spacing.
        pixel_spacing_mm: Side of a pixel in mm.

    Returns:
        List of a `SeriesNoise` for each slice; all have one spectrum and one correlation.

    Raises:
        As `series_noise`.
    """
    return _measured(volume_hu, pixel_spacing_mm).slices()


def _measured(volume_hu, pixel_spacing_mm):
    meter = NoiseMeter(pixel_spacing_mm)
    for index, slice_hu in enumerate(volume_hu):
        meter.add(slice_hu, beside_last=index > 0)
    return meter


def noise_like(slice_hu, pixel_spacing_mm, noise_std_hu, spectrum, rng, rays=None):
    """CT noise for this anatomy, of given strength where the noise of a series is measured.

    `noise_field` has its strength over all soft tissue; in the flat regions, where `series_noise` looks, noise
    is weaker than elsewhere. A ratio of doses means what it says only if both are measured in one place.

    Args:
        slice_hu: Slice `(H, W)` in HU that the rays pass through.
        pixel_spacing_mm: Side of a pixel in mm.
        noise_std_hu: Standard deviation in the slice's flat regions, HU; over all its soft tissue if it has none.
        spectrum: `NoiseSpectrum`.
        rng: `numpy.random.Generator`.
        rays: As of `noise_field`.

    Returns:
        Noise `(H, W)`, float32, in HU.

    Raises:
        ValueError: If the slice is not two-dimensional and finite.
    """
    noise = noise_field(slice_hu, pixel_spacing_mm, noise_std_hu, spectrum, rng, rays=rays)
    boxes = flat_regions(slice_hu, pixel_spacing_mm)
    if boxes:
        noise *= np.float32(noise_std_hu / regional_noise_std_hu(noise, boxes))
    return noise


def simulate_low_dose(slice_hu, pixel_spacing_mm, *, dose, noise, rng, rays=None):
    """Adds the noise that a fraction of the dose would have had.

    Args:
        slice_hu: Normal-dose slice `(H, W)` in HU; square pixels.
        pixel_spacing_mm: Side of a pixel in mm.
        dose: Fraction of the normal dose, between 0 and 1. A quarter dose adds three times the variance
            that the slice already has.
        noise: `SeriesNoise` the slice already has.
        rng: `numpy.random.Generator`.
        rays: As of `noise_field`; by default the noise shares nothing with that of the neighbours.

    Returns:
        Low-dose slice `(H, W)`, float32, in HU.

    Raises:
        ValueError: If the dose is not between 0 and 1, or the slice is not two-dimensional and finite.
    """
    if not 0 < dose < 1:
        raise ValueError(f"Expected a dose between 0 and 1, a fraction of the normal dose. Received: {dose}")
    extra_std_hu = noise.std_hu * np.sqrt(1 / dose - 1)
    extra_hu = noise_like(slice_hu, pixel_spacing_mm, extra_std_hu, noise.spectrum, rng, rays)
    return (slice_hu + extra_hu).astype("float32")


def slab_means(volume_hu, count):
    """Means of `count` neighbouring slices: a thicker, quieter series from a thin one.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position and evenly spaced.
        count: Slices per slab.

    Returns:
        Slabs `(n, H, W)`, float32, in HU; none overlaps another. Slices left over at the end are dropped.

    Raises:
        ValueError: If the series has fewer slices than a slab.

    Example:

    >>> slab_means(np.arange(7.0).reshape(7, 1, 1), 3).ravel().tolist()
    [1.0, 4.0]
    """
    if len(volume_hu) < count:
        raise ValueError(f"Expected at least {count} slices for a slab. Received: {len(volume_hu)}")
    starts = range(0, len(volume_hu) - count + 1, count)
    return np.stack([volume_hu[i : i + count].mean(axis=0, dtype=np.float64) for i in starts]).astype(
        "float32"
    )


def quiet_slabs(volume_hu, pixel_spacing_mm, slice_step_mm, *, most_noise_hu=12.0, most_thickness_mm=9.0):
    """A series as low-noise targets: slab means, as thick as needed and no thicker than allowed.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position and evenly spaced.
        pixel_spacing_mm: Side of a pixel in mm.
        slice_step_mm: Distance from one slice to the next in mm.
        most_noise_hu: Noise in HU below which slices are left as they are.
        most_thickness_mm: Thickest slab in mm: beyond it anatomy blurs.

    Returns:
        `(slabs, noises)`: slabs `(n, H, W)`, float32, in HU, and the `SeriesNoise` of each.

    Raises:
        NoFlatTissueError: If no slice has flat soft tissue to measure noise in.
        NoNoiseError: If that tissue shows no noise.
    """
    count = 1
    while True:
        slabs = slab_means(volume_hu, count) if count > 1 else np.asarray(volume_hu, "float32")
        meter = _measured(slabs, pixel_spacing_mm)
        thicker = count + 1
        too_thick = thicker * slice_step_mm > most_thickness_mm or thicker > len(volume_hu)
        if meter.series().std_hu <= most_noise_hu or too_thick:
            return slabs, meter.slices()
        count = thicker
