"""The weights that a page computes kernels from, and the proof that they are those that denoised."""

from dataclasses import replace

import numpy as np

from kpn_tf.denoiser.tiling import grown
from kpn_tf.hounsfield import SEEN
from kpn_tf.report.edge_network import MULTIPLE, NoEdgeNetworkError, read_edge_network

# The largest difference that may come from another order of sums; what `kpn export` allows the file itself.
TOLERANCE_HU = 0.05

# Side of the square in the middle of the slice in which kernels are tried, and how many.
_SIDE, _PIXELS = 128, 64


def proved_network(denoiser, slice_hu):
    """Reads a denoiser's weights and lets their kernels filter some pixels, which must come out as it made them.

    Args:
        denoiser: `kpn_tf.Denoiser`.
        slice_hu: `(H, W)` in HU, air outside the field of view.

    Returns:
        `EdgeNetwork`, its bank mixed with the pixel itself where the denoiser has a strength below 1.

    Raises:
        NoEdgeNetworkError: If the kernels cannot be read, or are not those that denoised.
    """
    network = read_edge_network(denoiser.artefact.path)
    network = replace(network, bank=_weakened(network.bank, denoiser.strength))
    top, left = (max(0, (length - _SIDE) // 2) for length in slice_hu.shape)
    part_hu = np.array(slice_hu[top : top + _SIDE, left : left + _SIDE], np.float32)
    # A slice smaller than a kernel as the network sees it.
    part_hu = grown(part_hu, multiple=MULTIPLE)
    side = network.bank.shape[0]
    radius = side // 2
    inner = [length - 2 * radius for length in part_hu.shape]
    chosen = np.linspace(0, inner[0] * inner[1] - 1, _PIXELS).round().astype(int)
    rows, columns = np.unravel_index(chosen, inner)  # of the upper left tap
    kernels = network.kernels_at(part_hu, rows + radius, columns + radius)  # (N, k, k)
    seen_hu = np.clip(part_hu, SEEN.low_hu, SEEN.high_hu)
    windows_hu = np.lib.stride_tricks.sliding_window_view(seen_hu, (side, side))[rows, columns]
    filtered_hu = np.einsum("nij,nij->n", kernels, windows_hu)
    denoised_hu = denoiser(part_hu) - (part_hu - seen_hu)
    difference_hu = np.abs(filtered_hu - denoised_hu[rows + radius, columns + radius]).max()
    if not difference_hu <= TOLERANCE_HU:
        raise NoEdgeNetworkError(
            f"the kernels read from {denoiser.artefact.path.name} filter up to {difference_hu:.3g} HU away from what "
            "it made of the slice"
        )
    return network


def _weakened(bank, strength):
    """The bank of `x + strength * (net(x) - x)`: every kernel keeps its sum of one."""
    delta = np.zeros_like(bank)
    delta[bank.shape[0] // 2, bank.shape[1] // 2] = 1
    return (strength * bank + (1 - strength) * delta).astype(np.float32)
