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
    if any(isinstance(side, int) and side < least for side in shape[1:3]):  # JAX has symbolic sides
        raise ValueError(_sentence(depth, least, received, "pad the slices first"))
    if isinstance(slices, np.ndarray) and not np.isfinite(slices).all():
        lost = f"{received} with {np.count_nonzero(~np.isfinite(slices))} pixels that are NaN or infinite"
        raise ValueError(_sentence(depth, least, lost, "replace them, by -1000 HU outside the field of view"))


def expect_stacks(inputs, *, depth, least=1):
    """Makes sure that an input is a batch of stacks in HU with the distances of their slices.

    Args:
        inputs: `[stack, distances]`, each a NumPy array, tensor or `keras.KerasTensor`.
        depth: Slices of a stack.
        least: Smallest side in pixels.

    Raises:
        ValueError: If they are not two, the stack is refused by `expect_slices`, or the distances are not of shape
            `(B, depth)`.
    """
    two = isinstance(inputs, (list, tuple)) and len(inputs) == 2
    if not two or not all(hasattr(one, "shape") for one in inputs):
        received = f"shape {tuple(inputs.shape)}" if hasattr(inputs, "shape") else type(inputs).__name__
        raise ValueError(
            f"Expected [stack, distances]: slices in HU of shape (B, H, W, {depth}), and their distances from the "
            f"middle one in mm of shape (B, {depth}). Received: {received}; kpn_tf.denoiser.stacked makes both"
        )
    stack_hu, distances_mm = inputs
    expect_slices(stack_hu, depth=depth, least=least)
    if getattr(distances_mm.shape, "rank", 0) is not None and (
        len(distances_mm.shape) != 2 or distances_mm.shape[-1] not in (depth, None)
    ):
        raise ValueError(
            f"Expected distances in mm of shape (B, {depth}). Received: shape {tuple(distances_mm.shape)}; give one "
            "for each slice of each stack, 0 for the middle one"
        )


def _sentence(depth, least, received, remedy):
    sizes = f" with H and W of {least} or more" if least > 1 else ""
    return (
        f"Expected slices in HU of shape (B, H, W, {depth}){sizes}, float32 and finite. "
        f"Received: {received}; {remedy}"
    )
