"""Whether a lesion can be found: the channelised Hotelling observer on images with and without it."""

from dataclasses import dataclass
from math import erf

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.metrics.noncentral_f import noncentrality_for


@dataclass(frozen=True)
class Detectability:
    """How well the observer tells the two kinds of image apart.

    Args:
        d_prime: The distance of its two score distributions in standard deviations, without the bias of finite
            samples; 0 where that correction leaves nothing.
        d_prime_interval: 95 % interval, exact for normal channel outputs.
        absent: How many images without the signal it was trained on.
        present: How many with it.
        channels: How many channels it has.
    """

    d_prime: float
    d_prime_interval: tuple[float, float]
    absent: int
    present: int
    channels: int


def auc_of(d_prime: float) -> float:
    """Area under the ROC curve of two normal distributions of equal width `d'` apart.

    Example:

    >>> auc_of(0.0), round(auc_of(2.0), 4)
    (0.5, 0.9214)
    """
    return 0.5 * (1 + erf(d_prime / 2))


def laguerre_gauss_channels(side: int, width: float, count: int) -> np.ndarray:
    """Round channels for a signal in the middle: Gaussians times Laguerre polynomials.

    `u_j(r) = √2 / a · exp(-π r² / a²) · L_j(2π r² / a²)`, orthonormal in the plane.

    Args:
        side: Side of a channel in pixels.
        width: `a` in pixels; about the diameter of the signal.
        count: Number of channels, j from 0 on.

    Returns:
        `(count, side, side)`.

    Raises:
        ValueError: If a number is not positive.

    Source: Barrett et al., "Stabilized estimates of Hotelling-observer detection performance in
        patient-structured noise", Proc. SPIE 3340 (1998); Gallas and Barrett, "Validating the use of channels to
        estimate the ideal linear observer", JOSA A 20 (2003).
    """
    if side < 1 or width <= 0 or count < 1:
        raise ValueError(
            "Expected positive side, width and count of channels. "
            f"Received: side {side}, width {width}, count {count}"
        )
    offset = np.arange(side) - (side - 1) / 2
    x = 2 * np.pi * (offset[:, None] ** 2 + offset**2) / width**2
    laguerre = [np.ones_like(x), 1 - x]
    for j in range(1, count - 1):
        # (j+1) L_(j+1) = (2j + 1 - x) L_j - j L_(j-1)
        laguerre.append(((2 * j + 1 - x) * laguerre[j] - j * laguerre[j - 1]) / (j + 1))
    return np.sqrt(2) / width * np.exp(-x / 2) * np.stack(laguerre[:count])


def known_detectability(signal: ArrayLike, covariance: ArrayLike, channels: ArrayLike) -> float:
    """`d'` where signal and covariance are known: `d'² = s'U (U'KU)⁻¹ U's`.

    Args:
        signal: `(h, w)`, mean with minus mean without the signal.
        covariance: `(h·w, h·w)` of the pixels, row by row.
        channels: `(count, h, w)`.

    Returns:
        A number.

    Source: Barrett and Myers, "Foundations of Image Science" (2004), chapters 13 and 14.
    """
    channels = np.asarray(channels, np.float64)
    u = channels.reshape(len(channels), -1)  # (count, h·w)
    response = u @ np.ravel(signal)
    return float(np.sqrt(response @ np.linalg.solve(u @ covariance @ u.T, response)))


def detectability(absent: ArrayLike, present: ArrayLike, channels: ArrayLike) -> Detectability:
    """`d'` from samples of both kinds.

    The sampled `d̂² = Δ' S⁻¹ Δ` (channel means and pooled covariance) is too large on average. As
    `n₀n₁/(n₀+n₁) · d̂²` is Hotelling's T², a multiple of a noncentral F variable, both its mean and its
    distribution are known, so the bias is taken out exactly and the interval needs no resampling.

    Args:
        absent: `(n0, h, w)` without the signal.
        present: `(n1, h, w)` with it, in the middle.
        channels: `(count, h, w)`.

    Returns:
        `Detectability`.

    Raises:
        ValueError: If the shapes do not fit, or there are not more than `count + 3` images in all.

    Source: Wunderlich, Noo, Gallas, Heilbrun, "Exact confidence intervals for channelized Hotelling observer
        performance in image quality studies", IEEE TMI 34 (2015).
    """
    squared, n0, n1, p = _sampled(absent, present, channels)
    q = n0 + n1 - p - 1
    share = n0 * n1 / (n0 + n1)
    f = squared * share * q / (p * (n0 + n1 - 2))
    low, high = (float(np.sqrt(noncentrality_for(c, f, p, q) / share)) for c in (0.975, 0.025))
    return Detectability(float(np.sqrt(max(_unbiased(squared, n0, n1, p), 0.0))), (low, high), n0, n1, p)


def unbiased_square(absent: ArrayLike, present: ArrayLike, channels: ArrayLike) -> float:
    """`d'²` without the bias of finite samples: right on average, and so below 0 at times.

    Args:
        absent: As in `detectability`.
        present: As in `detectability`.
        channels: As in `detectability`.

    Returns:
        A number.

    Raises:
        ValueError: As of `detectability`.
    """
    return _unbiased(*_sampled(absent, present, channels))


def _unbiased(squared, n0, n1, p):
    # The mean of F(p, q, λ) is q (p + λ) / (p (q - 2)), with λ = n0 n1 / (n0 + n1) d'².
    return squared * (n0 + n1 - p - 3) / (n0 + n1 - 2) - p * (n0 + n1) / (n0 * n1)


def _sampled(absent, present, channels):
    absent, present, channels = (np.asarray(a, np.float64) for a in (absent, present, channels))
    if {a.ndim for a in (absent, present, channels)} != {3} or not (
        absent.shape[1:] == present.shape[1:] == channels.shape[1:]
    ):
        raise ValueError(
            "Expected images (n, h, w) of both kinds and channels (count, h, w). "
            f"Received: {absent.shape}, {present.shape} and {channels.shape}"
        )
    p, n0, n1 = len(channels), len(absent), len(present)
    if min(n0, n1) < 1 or n0 + n1 <= p + 3:
        raise ValueError(
            f"Expected more than {p + 3} images for {p} channels, of both kinds. "
            f"Received: {n0} without and {n1} with the signal; take fewer channels or more images"
        )
    u = channels.reshape(p, -1)
    v0, v1 = absent.reshape(n0, -1) @ u.T, present.reshape(n1, -1) @ u.T  # (n, count)
    difference = v1.mean(0) - v0.mean(0)
    scatter = sum((v - v.mean(0)).T @ (v - v.mean(0)) for v in (v0, v1))
    squared = float(difference @ np.linalg.solve(scatter / (n0 + n1 - 2), difference))
    return squared, n0, n1, p
