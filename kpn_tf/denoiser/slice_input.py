"""What a denoiser is given: arrays that can be HU, and nothing that merely converts to numbers."""

import numpy as np

from kpn_tf.hounsfield import AIR_HU


def expect_unmasked(values):
    """Refuses masks, which a conversion to an array would drop.

    Args:
        values: An array, or a list of arrays.

    Raises:
        ValueError: If one is masked.
    """
    if any(map(np.ma.isMaskedArray, [values, *(values if isinstance(values, (list, tuple)) else [])])):
        raise ValueError(
            "Expected an array without a mask. Received: a masked array; give its data, and its mask as `padding`"
        )


def as_hu(slice_hu):
    """A slice as float32.

    Args:
        slice_hu: `(H, W)` array in HU: floats, or signed integers of 16 bits or more.

    Returns:
        A copy `(H, W)`, float32.

    Raises:
        ValueError: If the array is masked, holds no real numbers, has a type without negative values or of 8 bits, has
            another shape, or lies between -1 and 1 as scaled intensities do.
    """
    expect_unmasked(slice_hu)
    values = np.asarray(slice_hu)
    if values.dtype.kind not in "if" or values.dtype.itemsize < 2:
        raise ValueError(
            f"Expected HU: floats, or signed integers of 16 bits or more. Received: {values.dtype}; HU reach from "
            "-1000 to 3000: apply slope and intercept"
        )
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"Expected a slice of shape (H, W). Received: shape {values.shape}")
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        if finite.size and -1 <= finite.min() < finite.max() <= 1:
            raise ValueError(
                f"Expected HU, of which air has -1000. Received: values from {finite.min():.3g} to {finite.max():.3g}; "
                "scale them back to HU"
            )
    return values.astype(np.float32)


def seen(source_hu, padding):
    """A slice as the network sees it: air outside the field of view.

    Args:
        source_hu: `(H, W)` in HU.
        padding: `(H, W)` bool, true outside the field of view, or `None`.

    Returns:
        `(H, W)`, float32: the slice itself where there is no padding.

    Raises:
        ValueError: If the padding has another shape, or a pixel that is none is not finite.
    """
    seen_hu = source_hu
    if padding is not None:
        padding = np.asarray(padding, bool)
        if padding.shape != source_hu.shape:
            raise ValueError(
                f"Expected padding of the slice's shape {source_hu.shape}. Received: {padding.shape}"
            )
        seen_hu = np.where(padding, np.float32(AIR_HU), source_hu)
    if not np.isfinite(seen_hu).all():
        count = int(np.count_nonzero(~np.isfinite(seen_hu)))
        raise ValueError(
            f"Expected finite HU. Received: {count} pixels that are NaN or infinite; "
            "mark them in `padding` if they lie outside the field of view"
        )
    return seen_hu
