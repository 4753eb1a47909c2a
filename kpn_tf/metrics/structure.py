"""Structure in a slice, and whether it was kept: gradient strength, coherence, and the classes of the loss.

The NumPy twin of `kpn_tf.ops.structure_tensor`, for the workstation; the constants are at home here.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.hounsfield import WINDOWS
from kpn_tf.kernels import kernel_shapes

# Xu et al., ICIP 2021, section 3: what coherence and the constant class are weighed with, and the neighbourhood.
SIGMA_L2 = 1.8
SIGMA_L1 = 0.35
NEIGHBOURHOOD = 11

# By the largest of the loss's weights: squared error, absolute error, similarity.
CLASSES = ("edge", "flat", "fine")


def strength_and_coherence(slice_hu):
    """How strong the structure around a pixel is, and how much of it runs in one direction.

    `GᵀG` is summed over the 11 × 11 neighbourhood of central differences in the soft-tissue window on [0, 1];
    `λ1 ≥ λ2` are its eigenvalues. At the border the sum is scaled up to a full neighbourhood.

    Args:
        slice_hu: `(H, W)` in HU.

    Returns:
        `λ1` (unit scale squared) and `(√λ1 - √λ2) / (√λ1 + √λ2)`, 0 where nothing varies: both `(H, W)`.

    Source: Xu et al., ICIP 2021, Eq. 2 and 3.
    """
    window = WINDOWS["soft"]
    image = (np.clip(np.asarray(slice_hu, np.float64), window.low_hu, window.high_hu) - window.low_hu) / (
        window.width_hu
    )
    padded = np.pad(image, 1, mode="reflect")
    d_row = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    d_column = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    a, b, c = (_neighbourhood_sum(product) for product in (d_column**2, d_column * d_row, d_row**2))
    middle, spread = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b**2)
    larger, smaller = middle + spread, np.maximum(middle - spread, 0.0)
    s1, s2 = np.sqrt(larger), np.sqrt(smaller)
    return larger, (s1 - s2) / np.maximum(s1 + s2, 1e-12)


def structure_classes(slice_hu: ArrayLike) -> np.ndarray:
    """What each pixel of a slice is: the class whose weight in the structure-aware loss is largest.

    Args:
        slice_hu: `(H, W)` in HU; the quieter, the better the classes.

    Returns:
        `(H, W)` int: 0 edge, 1 flat, 2 fine structure, as in `CLASSES`.

    Source: Xu et al., ICIP 2021, Eq. 4.
    """
    strength, coherence = strength_and_coherence(slice_hu)
    return np.argmax([coherence * SIGMA_L2, np.full_like(coherence, SIGMA_L1), strength], axis=0)


def structure_by_class(slice_hu: ArrayLike, classes: ArrayLike) -> dict[str, tuple[float, float]]:
    """Mean gradient strength and coherence of a slice over the pixels of each class.

    Strength is `√(λ1 / 121)`, the root mean square gradient along its main direction: twice the contrast, twice
    the strength. Noise has gradients too, so a noisy slice is stronger than the truth, and most where it is flat.

    Args:
        slice_hu: `(H, W)` in HU.
        classes: `(H, W)`, from `structure_classes` of this slice or of a quieter one of the same anatomy.

    Returns:
        Dict by class of `(strength in HU per pixel, coherence)`; NaN for a class without pixels.
    """
    strength, coherence = strength_and_coherence(slice_hu)
    strength_hu = WINDOWS["soft"].width_hu * np.sqrt(strength) / NEIGHBOURHOOD
    return {
        name: (float(strength_hu[of].mean()), float(coherence[of].mean())) if of.any() else (np.nan, np.nan)
        for name, of in ((name, np.asarray(classes) == i) for i, name in enumerate(CLASSES))
    }


def unclipped(slice_hu: ArrayLike) -> np.ndarray:
    """Pixels whose neighbourhood lies in the slice and is left whole by the soft-tissue window.

    Along the rim of what the window clips, a trace of noise on one side alone passes for an edge.

    Args:
        slice_hu: `(H, W)` in HU.

    Returns:
        `(H, W)` bool.
    """
    slice_hu, window = np.asarray(slice_hu), WINDOWS["soft"]
    clipped = (slice_hu <= window.low_hu) | (slice_hu >= window.high_hu)
    clipped = np.pad(clipped, NEIGHBOURHOOD // 2, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(clipped, (NEIGHBOURHOOD, NEIGHBOURHOOD))
    return np.asarray(~windows.any(axis=(2, 3)))


def kernels_by_class(
    network: Any, low_hu: ArrayLike, normal_hu: ArrayLike, pixels: int = 400
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Shapes of the kernels of a network at flat, edge and fine pixels all over a slice.

    Args:
        network: What has `kernels_at` and sees one slice, such as `StructKPN` or `kpn_tf.Denoiser`.
        low_hu: `(H, W)` in HU, what the network sees.
        normal_hu: `(H, W)` in HU, what the classes are found in, the quieter the better; only pixels that are
            `unclipped` count.
        pixels: Of each class at most, evenly spaced over those there are.

    Returns:
        Dict by class of effective radius and anisotropy, both `(n,)`, as `kpn_tf.kernels.kernel_shapes` defines them;
        empty ones for a class without pixels.

    Source: Xu et al., ICIP 2021, Fig. 2: the kernels that are to differ.
    """
    classes, clear = structure_classes(normal_hu), unclipped(normal_hu)
    found = {}
    for i, name in enumerate(CLASSES):
        places = np.argwhere((classes == i) & clear)
        places = places[np.arange(min(pixels, len(places))) * len(places) // max(min(pixels, len(places)), 1)]
        if len(places):
            found[name] = kernel_shapes(network.kernels_at(low_hu, *places.T))
        else:
            found[name] = (np.empty(0), np.empty(0))
    return found


def _neighbourhood_sum(image):
    """Sum over the neighbourhood of every pixel; at the border the mean over the part inside, times its size."""
    r = NEIGHBOURHOOD // 2
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        n, at = len(image), np.arange(len(image))
        padded = np.pad(image, ((r, r), (0, 0)))
        total = sum(padded[i : i + n] for i in range(NEIGHBOURHOOD))
        inside = np.minimum(at + r, n - 1) - np.maximum(at - r, 0) + 1
        image = np.moveaxis(total * (NEIGHBOURHOOD / inside)[:, None], 0, axis)
    return image
