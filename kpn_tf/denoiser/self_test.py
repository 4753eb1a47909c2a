"""Whether a GPU computes what the CPU computes: values are the only proof.

LiteRT calls a graph fully accelerated, and its run a success, where the adapter had rejected a command and the
output still held the noisy slice.
"""

import time
from typing import NamedTuple

import numpy as np

from kpn_tf.hounsfield import AIR_HU

# Both compute in float32 and differ by the order of their sums: 0.004 HU at most for the shipped network. Half
# precision would be off by up to 1 HU at 3000 HU. A CT file stores whole HU.
TOLERANCE_HU = 0.05

_DENSE_BONE_HU = 3071.0
_NOISE_HU = 25.0
_FIELD_OF_VIEW_MM = 384.0

# From one slice of a stack to the next.
_STEP_MM = 1.5


class SelfTest(NamedTuple):
    """What came out.

    Args:
        largest_hu: Largest difference of any pixel of any tile; NaN or infinite if a value was.
        gpu_ms: Milliseconds for a tile on the GPU, the way to it and back included.
        cpu_ms: Milliseconds for a tile on the CPU.
    """

    largest_hu: float
    gpu_ms: float
    cpu_ms: float

    @property
    def passed(self):
        """Whether every pixel is within `TOLERANCE_HU`."""
        return self.largest_hu <= TOLERANCE_HU


def run_self_test(gpu, cpu, side, slices=1):
    """Compares two ways to compute one network.

    The first tile of each warms it up, the second is timed.

    Args:
        gpu: Callable, `(1, side, side, 1)` float32 HU to the same, or a stack and its distances.
        cpu: Likewise; it is taken to be right.
        side: Rows and columns of a tile.
        slices: Slices of a stack.

    Returns:
        A `SelfTest`.
    """
    largest_hu = 0.0
    distances_mm = np.float32([[_STEP_MM * abs(place - slices // 2) for place in range(slices)]])
    more = (distances_mm,) if slices > 1 else ()
    for tile_hu in (_random_tile(side, slices), _anatomical_tile(side, slices)):
        batch_hu = np.ascontiguousarray(tile_hu[None])  # (1, side, side, S)
        gpu_hu, gpu_ms = _timed(gpu, batch_hu, *more)
        cpu_hu, cpu_ms = _timed(cpu, batch_hu, *more)
        difference_hu = np.abs(gpu_hu.astype(np.float64) - cpu_hu).max()
        # Not `max`: a NaN must stay one.
        largest_hu = float(np.maximum(largest_hu, difference_hu))
    return SelfTest(largest_hu, gpu_ms, cpu_ms)


def _timed(network, *inputs):
    began = time.perf_counter()
    denoised_hu = network(*inputs)
    return denoised_hu, 1000 * (time.perf_counter() - began)


def _random_tile(side, slices):
    """Every pixel anywhere in HU: no structure that an error could hide behind."""
    return np.random.default_rng(1).uniform(AIR_HU, _DENSE_BONE_HU, (side, side, slices)).astype(np.float32)


def _anatomical_tile(side, slices):
    """What the network was made for: a torso and its noise."""
    # Here, because the phantom brings pydicom along, and who stays on the CPU needs neither.
    from kpn_tf.phantom import torso

    spacing_mm = {"pixel_spacing_mm": _FIELD_OF_VIEW_MM / side, "slice_spacing_mm": _STEP_MM}
    body_hu = np.moveaxis(torso(side, side, slices=slices, **spacing_mm).volume_hu, 0, -1)
    noise_hu = np.random.default_rng(2).normal(0.0, _NOISE_HU, body_hu.shape)
    return (body_hu + noise_hu).astype(np.float32)
