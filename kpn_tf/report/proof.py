"""What a page computes kernels from, and the proof that these kernels are those that denoised."""

import numpy as np

from kpn_tf.denoiser import NoKernelsError
from kpn_tf.denoiser.tiling import grown
from kpn_tf.hounsfield import SEEN
from kpn_tf.report.layers import read_layers

# The largest difference that may come from another order of sums; what `kpn export` allows the file itself.
TOLERANCE_HU = 0.05

# Side of the square in the middle of the slice in which kernels are tried, and how many.
_SIDE, _PIXELS = 128, 64


def proved_network(denoiser, slice_hu):
    """Reads a denoiser's network and lets its kernels filter some pixels, which must come out as it made them.

    Args:
        denoiser: `kpn_tf.Denoiser` of strength 1.
        slice_hu: `(H, W)` in HU, air outside the field of view.

    Returns:
        `kpn_tf.report.layers.Layers`.

    Raises:
        NoKernelsError: If the kernels cannot be read, or are not those that denoised.
    """
    path = denoiser.artefact.path
    network = read_layers(path)
    top, left = (max(0, (length - _SIDE) // 2) for length in slice_hu.shape)
    part_hu = np.array(slice_hu[top : top + _SIDE, left : left + _SIDE], np.float32)
    # A slice smaller than a kernel as the network sees it.
    part_hu = grown(part_hu, multiple=denoiser.artefact.multiple)
    side = network.banks[0].shape[1]
    radius = side // 2
    inner = [length - 2 * radius for length in part_hu.shape]
    chosen = np.linspace(0, inner[0] * inner[1] - 1, _PIXELS).round().astype(int)
    rows, columns = np.unravel_index(chosen, inner)  # of the upper left tap
    kernels = denoiser.kernels_at(part_hu, rows + radius, columns + radius)  # (N, k, k)
    seen_hu = np.clip(part_hu, SEEN.low_hu, SEEN.high_hu)
    windows_hu = np.lib.stride_tricks.sliding_window_view(seen_hu, (side, side))[rows, columns]
    filtered_hu = np.einsum("nij,nij->n", kernels, windows_hu)
    denoised_hu = denoiser(part_hu) - (part_hu - seen_hu)
    difference_hu = np.abs(filtered_hu - denoised_hu[rows + radius, columns + radius]).max()
    if not difference_hu <= TOLERANCE_HU:
        raise NoKernelsError(
            f"the kernels read from {path.name} filter up to {difference_hu:.3g} HU away from what it made of the slice"
        )
    return network
