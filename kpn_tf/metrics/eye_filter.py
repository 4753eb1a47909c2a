"""An observer that looks for a known signal as an eye sees it, and does not undo the grain of the noise."""

import numpy as np
from numpy.typing import ArrayLike

# Most sensitive at four cycles a degree; the picture is looked at from half a metre at its own size.
_EXPONENT, _PEAK_PER_DEGREE, _VIEWING_MM = 1.3, 4.0, 500.0


def eye_filter(frequency_per_mm: ArrayLike) -> np.ndarray:
    """How much of a frequency an eye sees: `E(f) = f^1.3 exp(-c f^2)` with f in cycles a degree, 1 at its peak.

    Args:
        frequency_per_mm: In the picture, 1/mm.

    Returns:
        Array of the same shape.

    Source: Burgess et al., J. Opt. Soc. Am. A 14 (1997), with the peak at 4 cycles a degree.
    """
    relative = np.asarray(frequency_per_mm) * (np.pi / 180 * _VIEWING_MM) / _PEAK_PER_DEGREE
    # With c so that the peak is at 1: relative^n exp(-(n / 2) (relative^2 - 1)).
    return relative**_EXPONENT * np.exp(-_EXPONENT / 2 * (relative**2 - 1))


def eye_filtered_d_prime(absent: ArrayLike, present: ArrayLike, signal: ArrayLike, pixel_mm: float) -> float:
    """d' of the non-prewhitening observer with eye filter, from images with and without a known signal.

    Its template is the signal seen twice through the filter, once for the eye and once for what it looks for; d' is
    the difference of the mean responses over the root of their mean variance.

    Args:
        absent: `(n, h, w)` without the signal.
        present: `(m, h, w)` with it.
        signal: `(h, w)`, what is looked for, in any unit.
        pixel_mm: Side of a pixel in mm.

    Returns:
        A number; below 0 if the signal is looked for with the wrong sign.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> disc = np.hypot(*np.mgrid[-16:17, -16:17]) < 6.0
    >>> absent, present = rng.normal(0, 50, (2, 200, 33, 33))
    >>> round(eye_filtered_d_prime(absent, present + 20 * disc, disc, 0.75), 1)
    1.7
    """
    h, w = np.shape(signal)
    frequency = np.hypot(np.fft.fftfreq(2 * h, pixel_mm)[:, None], np.fft.rfftfreq(2 * w, pixel_mm))
    seen = np.fft.rfft2(signal, (2 * h, 2 * w)) * eye_filter(frequency) ** 2
    template = np.fft.irfft2(seen, (2 * h, 2 * w))[:h, :w]
    without, among = (np.tensordot(np.asarray(images, np.float64), template) for images in (absent, present))
    spread = np.sqrt((without.var(ddof=1) + among.var(ddof=1)) / 2)
    return float((among.mean() - without.mean()) / spread)
