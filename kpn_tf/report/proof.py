"""What a page computes kernels from, and the proof that these kernels are those that denoised."""

import numpy as np

from kpn_tf.denoiser import NoKernelsError
from kpn_tf.denoiser.tiling import grown
from kpn_tf.hounsfield import SEEN
from kpn_tf.neighbours import stacked
from kpn_tf.report.layers import read_layers

# The largest difference that may come from another order of sums; what `kpn export` allows the file itself.
TOLERANCE_HU = 0.05

# Side of the square in the middle of the slice in which kernels are tried, and how many.
_SIDE, _PIXELS = 128, 64


def proved_network(denoiser, slice_hu, neighbours=()):
    """Reads the network that a denoiser uses with these neighbours, and proves its kernels.

    They filter some pixels, which must come out as the network made them.

    Args:
        denoiser: `kpn_tf.Denoiser` of strength 1.
        slice_hu: `(H, W)` in HU, air outside the field of view.
        neighbours: Of a network of several slices what lies beside it, as `denoiser` takes it.

    Returns:
        `kpn_tf.report.layers.Layers`.

    Raises:
        NoKernelsError: If the kernels cannot be read, or are not those that denoised.
    """
    denoiser = denoiser.used_with(neighbours)
    neighbours = neighbours if denoiser.slices > 1 else ()
    path = denoiser.artefact.path
    network = read_layers(path)
    top, left = (max(0, (length - _SIDE) // 2) for length in slice_hu.shape)

    def part(one_hu):
        one_hu = np.array(one_hu[top : top + _SIDE, left : left + _SIDE], np.float32)
        # A slice smaller than a kernel as the network sees it.
        return grown(one_hu, multiple=denoiser.artefact.multiple)

    part_hu = part(slice_hu)
    beside = [one and one._replace(slice_hu=part(one.slice_hu)) for one in neighbours]
    side = network.banks[0].shape[1]
    radius = side // 2
    inner = [length - 2 * radius for length in part_hu.shape]
    chosen = np.linspace(0, inner[0] * inner[1] - 1, _PIXELS).round().astype(int)
    rows, columns = np.unravel_index(chosen, inner)  # of the upper left tap
    kernels = denoiser.kernels_at(part_hu, rows + radius, columns + radius, neighbours=beside)
    kernels = kernels.reshape(_PIXELS, -1, side, side)
    stack_hu, _ = stacked(part_hu, beside, denoiser.slices)
    seen_hu = np.clip(np.moveaxis(stack_hu, -1, 0), SEEN.low_hu, SEEN.high_hu)
    windows_hu = np.lib.stride_tricks.sliding_window_view(seen_hu, (side, side), axis=(1, 2))
    filtered_hu = np.einsum("nzij,znij->n", kernels, windows_hu[:, rows, columns])
    denoised_hu = denoiser(part_hu, None, beside) - (part_hu - seen_hu[denoiser.slices // 2])
    difference_hu = np.abs(filtered_hu - denoised_hu[rows + radius, columns + radius]).max()
    if not difference_hu <= TOLERANCE_HU:
        raise NoKernelsError(
            f"the kernels read from {path.name} filter up to {difference_hu:.3g} HU away from what it made of the slice"
        )
    return network
