"""The noise of a lower dose: made in the projections, with any texture.

The slice is projected, every ray receives the extra noise that the lower dose would have had, and only
the filtered backprojection of that noise is added to the slice. Neither the blur of a reconstruction
nor a change of kernel touches the pair. The ramp and the reconstruction kernel act on the projections as
one filter, chosen so that the noise has the power spectrum asked for.

Sources: Yu et al., "Development and validation of a practical lower-dose-simulation tool for optimizing
computed tomography scan protocols", J Comput Assist Tomogr 36 (2012), for the noise of the lower dose;
Kak and Slaney, "Principles of Computerized Tomographic Imaging" (1988), chapter 3, for the
reconstruction.
"""

from dataclasses import dataclass

import numpy as np

from kpn_tf.hounsfield import WATER_ATTENUATION_PER_MM

VIEWS = 720

# Standard deviation of the electronic noise of a detector channel, in photons: the usual order of
# magnitude; it matters only where the patient is thick and the dose low.
ELECTRONIC_NOISE = 8.0

# Exponent of the tube current's dependence on the attenuation of a view, and the bow-tie filter: the share
# of a water cylinder's missing path that it makes up for.
CURRENT_MODULATION = 0.5
BOWTIE_RADIUS_MM = 160.0
BOWTIE_STRENGTH = 0.8

# Backprojection reads the projections at the nearest of so many samples per pixel.
_SAMPLES_PER_PIXEL = 4


@dataclass(frozen=True)
class NoiseSpectrum:
    """A radial noise power spectrum: what the texture of the noise looks like.

    Args:
        frequency_per_mm: Increasing frequencies in 1/mm.
        density: Power density at these frequencies, any unit: only the shape counts.

    Raises:
        ValueError: If the two differ in length, the frequencies do not increase or the density is
            negative or nowhere positive.
    """

    frequency_per_mm: tuple[float, ...]
    density: tuple[float, ...]

    def __post_init__(self):
        frequency, density = np.asarray(self.frequency_per_mm), np.asarray(self.density)
        if frequency.shape != density.shape or frequency.size < 2 or np.any(np.diff(frequency) <= 0):
            raise ValueError(
                "Expected as many densities as increasing frequencies, two or more. "
                f"Received: {frequency.size} frequencies, {density.size} densities"
            )
        if np.any(density < 0) or not np.any(density > 0):
            raise ValueError("Expected a density that is nowhere negative and somewhere positive")

    def at(self, frequency_per_mm):
        """The density at any frequency: linear between the samples, proportional to it below, 0 above."""
        frequency = np.concatenate([[0.0], self.frequency_per_mm])
        return np.interp(frequency_per_mm, frequency, np.concatenate([[0.0], self.density]), right=0.0)

    def stretched(self, factor):
        """The same shape on a frequency axis stretched by `factor`: a sharper kernel if above 1."""
        return NoiseSpectrum(tuple(f * factor for f in self.frequency_per_mm), self.density)


def kernel_spectrum(cutoff_per_mm, order):
    """The noise of filtered backprojection with a reconstruction kernel: ramp times squared transfer function.

    `S(f) = f exp(-(f / cutoff)^order)`.

    Args:
        cutoff_per_mm: Where the kernel has fallen to 1/e of its power, 1/mm.
        order: How abruptly it falls.

    Returns:
        `NoiseSpectrum` up to 1.2 per mm.
    """
    frequency = np.linspace(0.01, 1.2, 120)
    density = frequency * np.exp(-((frequency / cutoff_per_mm) ** order))
    return NoiseSpectrum(tuple(frequency.tolist()), tuple(density.tolist()))


# Fitted to the noise of quarter-dose minus normal-dose slices of real pairs (collection LDCT-and-Projection-data,
# CC BY 4.0) reconstructed with a soft kernel (B30f: peak near 0.22 per mm) and a sharp one (D45f: a plateau from
# 0.4 to 0.7 per mm).
SPECTRA = {"soft": kernel_spectrum(0.31, 2), "sharp": kernel_spectrum(0.82, 6)}


def noise_field(slice_hu, pixel_spacing_mm, noise_std_hu, spectrum, rng, region=None, rays=None):
    """CT noise for this anatomy: of the given texture and, in soft tissue, the given strength.

    The photon count that yields `noise_std_hu` is found from the variance that reaches the soft-tissue
    pixels, so no scanner constant has to be guessed.

    Args:
        slice_hu: Slice `(H, W)` in HU that the rays pass through.
        pixel_spacing_mm: Side of a pixel in mm.
        noise_std_hu: Root mean square over the soft-tissue pixels (-100 to 150 HU), in HU.
        spectrum: `NoiseSpectrum` in flat tissue.
        rng: `numpy.random.Generator`.
        region: `(row slice, column slice)` that is wanted, in less time and with the same noise; the whole slice if
            `None`.
        rays: Function from the shape of the projections to their white noise, float32 of standard deviation one: noise
            of neighbouring slices is correlated where this is. That of `rng` if `None`.

    Returns:
        Noise `(H, W)`, or that of the region, float32, in HU: stronger along directions and in regions that attenuate
        more.

    Raises:
        ValueError: If the slice is not two-dimensional and finite.

    Example:

    >>> water = np.zeros((64, 64), "float32")
    >>> noise = noise_field(water, 0.7, 20.0, SPECTRA["soft"], np.random.default_rng(0))
    >>> bool(15 < noise.std() < 25)
    True
    """
    slice_hu = np.asarray(slice_hu)
    if slice_hu.ndim != 2 or not np.isfinite(slice_hu).all():
        raise ValueError(f"Expected a finite slice of shape (H, W). Received: shape {slice_hu.shape}")
    attenuation = WATER_ATTENUATION_PER_MM * np.maximum(1 + slice_hu / 1000.0, 0.0)  # per mm
    # Corners outside the field of view hold no patient, and values there can be anything.
    inside = _inscribed_circle(slice_hu.shape)
    attenuation = np.where(inside, attenuation, 0.0)
    transmission = _fluence(_line_integrals(attenuation, pixel_spacing_mm), pixel_spacing_mm)
    weights = _projection_filter(spectrum, pixel_spacing_mm, transmission.shape[1])

    soft = np.argwhere((slice_hu > -100) & (slice_hu < 150) & inside)
    if len(soft) == 0:
        soft = np.argwhere(inside)
    soft = soft[rng.choice(len(soft), min(len(soft), 500), replace=False)]
    photons = _photons_for(noise_std_hu, transmission, weights, soft, slice_hu.shape)
    ray_std = np.sqrt(_ray_variance(transmission, photons))
    white = rays(transmission.shape) if rays else rng.standard_normal(transmission.shape, dtype=np.float32)
    noise = white * ray_std
    return _backproject(noise, weights, slice_hu.shape, region or (slice(None), slice(None)))


def _inscribed_circle(shape):
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.hypot(rows[:, None], columns[None, :]) <= min(shape) / 2


def _detectors(shape):
    return int(np.ceil(np.hypot(*shape))) + 4


def _line_integrals(attenuation_per_mm, pixel_spacing_mm):
    """Parallel projections `(VIEWS, detectors)` of the attenuation, one detector per pixel side.

    The noise they govern varies slowly, so half the resolution and a quarter of the views are enough.
    """
    rows, columns = (n // 2 for n in attenuation_per_mm.shape)
    coarse = attenuation_per_mm[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    # (rows, columns) of the coarse grid in full-resolution pixels from the centre
    y = 2 * np.arange(rows) + 0.5 - (attenuation_per_mm.shape[0] - 1) / 2
    x = 2 * np.arange(columns) + 0.5 - (attenuation_per_mm.shape[1] - 1) / 2
    detectors = _detectors(attenuation_per_mm.shape)
    mass = coarse.ravel() * (4 * pixel_spacing_mm)  # area of a coarse pixel over the detector side
    coarse_views = VIEWS // 4
    integrals = np.empty((coarse_views, detectors), np.float32)
    for view in range(coarse_views):
        angle = np.pi * view / coarse_views
        position = (np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]).ravel() + detectors / 2
        integrals[view] = np.bincount(position.astype(np.int32), mass, minlength=detectors)
    # Coarse pixels two detectors apart leave gaps; these weights give every detector the same share of them.
    weights = np.array([1, 2, 3, 4, 3, 2, 1]) / 16
    smooth = np.apply_along_axis(np.convolve, 1, integrals, weights, mode="same")
    return np.repeat(smooth, 4, axis=0)


def _fluence(integrals, pixel_spacing_mm):
    """Relative photons behind the patient `(views, detectors)`, with what scanners do to even them out.

    The tube current follows the attenuation of the view, and a bow-tie filter gives rays that miss the
    middle less to start with. Without both, noise in a body would be far more uneven than it is: the
    two constants are set so that the standard deviation at the periphery over that at the centre, and
    the correlation along rows and columns, come near those of real pairs.
    """
    centre = integrals[:, integrals.shape[1] // 2 - 8 : integrals.shape[1] // 2 + 8].mean(
        axis=1, keepdims=True
    )
    offset = (np.arange(integrals.shape[1]) - integrals.shape[1] / 2) * pixel_spacing_mm
    chord = 2 * np.sqrt(np.maximum(BOWTIE_RADIUS_MM**2 - offset**2, 0.0))
    bowtie = BOWTIE_STRENGTH * WATER_ATTENUATION_PER_MM * (2 * BOWTIE_RADIUS_MM - chord)
    return np.exp(CURRENT_MODULATION * centre - bowtie - integrals)


def _projection_filter(spectrum, pixel_spacing_mm, detectors):
    """Gain of the ramp and reconstruction kernel at the frequencies of a projection, padded twofold.

    Backprojection divides power by the frequency (each view adds a line through the origin of the
    plane), so a power spectrum S needs the gain `sqrt(f S(f))`.
    """
    frequency = np.fft.rfftfreq(2 * detectors, d=pixel_spacing_mm)
    return np.sqrt(frequency * spectrum.at(frequency)).astype(np.float32)


def _ray_variance(transmission, photons):
    """Variance of the logarithm of a ray: quantum and electronic noise (Yu et al. 2012, Eq. 6)."""
    count = np.maximum(photons * transmission, 1.0)
    return 1 / count + (ELECTRONIC_NOISE / count) ** 2


def _photons_for(noise_std_hu, transmission, weights, pixels, shape):
    """Photons per unattenuated ray for which the backprojected noise has the strength asked for."""
    views, detectors = transmission.shape
    angles = np.pi * np.arange(views) / views
    y, x = (pixels - (np.asarray(shape) - 1) / 2).T
    position = np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * y + detectors / 2  # (views, pixels)
    seen = np.take_along_axis(transmission, position.astype(np.int32), axis=1)
    # Parseval: the power of the filter's impulse response.
    gain = 2 * np.sum(weights.astype(float) ** 2) / (2 * detectors)
    scale = gain * (_HU_PER_PROJECTION * np.pi / views) ** 2 * views  # HU² per unit of mean ray variance
    photons = 1e5
    for _ in range(30):
        ratio = scale * _ray_variance(seen, photons).mean() / noise_std_hu**2
        # Variance falls with the photons where quantum noise rules and with their square where electronic noise
        # does; an exponent in between leaves a third of the error per step in either case.
        photons *= ratio ** (2 / 3)
        if abs(ratio - 1) < 1e-4:
            break
    return photons


# The filter's gain has no unit of its own; photons are calibrated against it.
_HU_PER_PROJECTION = 1000.0


def _backproject(projections, weights, shape, region):
    """Filters the projections and smears them over a region of the slice, `(views, detectors)` to `(h, w)`."""
    views, detectors = projections.shape
    spectrum = np.fft.rfft(projections, 2 * detectors, axis=1) * weights
    fine = 2 * detectors * _SAMPLES_PER_PIXEL
    # Zero-padding in frequency interpolates the filtered projections exactly.
    filtered = np.fft.irfft(spectrum, fine, axis=1)[:, : fine // 2].astype(np.float32) * _SAMPLES_PER_PIXEL
    filtered *= _HU_PER_PROJECTION * np.pi / views
    rows, columns = shape
    y = (np.arange(rows) - (rows - 1) / 2)[region[0], None]
    x = (np.arange(columns) - (columns - 1) / 2)[None, region[1]]
    out = np.zeros((y.size, x.size), np.float32)
    for view, projection in enumerate(filtered):
        angle = np.pi * view / views
        along_x = (_SAMPLES_PER_PIXEL * (np.cos(angle) * x + detectors / 2)).astype(np.float32)
        along_y = (_SAMPLES_PER_PIXEL * np.sin(angle) * y).astype(np.float32)
        out += np.take(projection, (along_x + along_y).astype(np.int32), mode="clip")
    return out
