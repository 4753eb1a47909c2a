"""What operations on HU take: slices as floats with a channel axis, and one sentence for anything else."""

import keras
import numpy as np


def expect_slices(slices, *, depth=1, least=1):
    """Makes sure that an input is a batch of slices in HU.

    A NumPy array is also looked at for NaN. A tensor is not: on a device, or while a graph is traced, its values are
    not there yet.

    Args:
        slices: NumPy array, tensor or `keras.KerasTensor`.
        depth: Slices in the channel axis.
        least: Smallest side in pixels.

    Raises:
        ValueError: If the shape is not `(B, H, W, depth)`, a side is smaller, the values are no floats, or one of an
            array is NaN or infinite.
    """
    if not hasattr(slices, "shape") or not hasattr(slices, "dtype"):
        raise ValueError(_sentence(depth, least, type(slices).__name__, "give a NumPy array or a tensor"))
    if getattr(slices.shape, "rank", 0) is None:
        return  # A tensor of TensorFlow whose shape is known only when it runs.
    shape, dtype = tuple(slices.shape), keras.backend.standardize_dtype(slices.dtype)
    received = f"shape {shape}, {dtype}"
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(_sentence(depth, least, received, "cast it to float32"))
    if len(shape) == 2:
        raise ValueError(_sentence(depth, least, received, "give it as slices[None, :, :, None]"))
    if len(shape) == 3:
        raise ValueError(_sentence(depth, least, received, "give it as slices[..., None]"))
    if len(shape) != 4 or shape[-1] not in (depth, None):
        raise ValueError(_sentence(depth, least, received, "move the slices to the first axis"))
    if any(side is not None and side < least for side in shape[1:3]):
        raise ValueError(_sentence(depth, least, received, "pad the slices first"))
    if isinstance(slices, np.ndarray) and not np.isfinite(slices).all():
        lost = f"{received} with {np.count_nonzero(~np.isfinite(slices))} pixels that are NaN or infinite"
        raise ValueError(_sentence(depth, least, lost, "replace them, by -1000 HU outside the field of view"))


def _sentence(depth, least, received, remedy):
    sizes = f" with H and W of {least} or more" if least > 1 else ""
    return (
        f"Expected slices in HU of shape (B, H, W, {depth}){sizes}, float32 and finite. "
        f"Received: {received}; {remedy}"
    )
