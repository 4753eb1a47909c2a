"""BM4D: BM3D for volumes, the denoiser without training that sees neighbouring slices; for non-commercial use only."""

import numpy as np

from baselines.calibration import checked_sigma_hu, checked_slice_hu
from baselines.packages import package_of, warn_of_licence

# Blocks of 4×4×4 voxels and their search window do not fit into less.
_LEAST_SLICES, _LEAST_SIDE = 4, 16


class BM4D:
    """Block matching and 4-D filtering of a slice with its neighbours, hard-thresholding stage only.

    As with `baselines.bm3d.BM3D`, the Wiener stage is left out: it assumes white noise. No sigma has been calibrated
    for it, so one must be stated.

    Args:
        sigma_hu: Standard deviation of the noise in HU.
        slices: Slices of a stack, odd.

    Raises:
        ImportError: If the extra is not installed.
        ValueError: If `sigma_hu` is not positive.

    Source: Maggioni, Katkovnik, Egiazarian, Foi, "Nonlocal transform-domain filter for volumetric data denoising and
    reconstruction", IEEE Trans Image Process 22 (2013); package bm4d.
    """

    def __init__(self, sigma_hu, slices=5):
        self.sigma_hu = checked_sigma_hu(sigma_hu)
        self.slices = slices
        self._bm4d = package_of("BM4D", "bm4d")
        warn_of_licence("BM4D", "bm4d")

    def __call__(self, slice_hu, padding=None, neighbours=()):
        """Denoises one slice.

        Args:
            slice_hu: `(H, W)` in HU; it is not altered.
            padding: `(H, W)` bool, true where the slice comes back as it is, or `None`.
            neighbours: As of `kpn_tf.denoiser.Denoiser`; where there are fewer than three, the stack is mirrored
                along z.

        Returns:
            New float32 `(H, W)` array in HU.

        Raises:
            ValueError: If the slice is not two-dimensional, is empty, or holds NaN or infinity.
        """
        slice_hu = checked_slice_hu(slice_hu)
        half = len(neighbours) // 2
        before, after = (
            [np.asarray(one.slice_hu, np.float64) for one in side if one is not None]
            for side in (neighbours[:half], neighbours[half:])
        )
        stack_hu = np.stack([*before, slice_hu, *after], axis=-1)  # (H, W, S)
        least = (_LEAST_SIDE, _LEAST_SIDE, _LEAST_SLICES)
        spare = [(0, max(0, size - length)) for size, length in zip(least, stack_hu.shape, strict=True)]
        denoised_hu = self._bm4d.bm4d(
            np.pad(stack_hu, spare, mode="symmetric"),
            self.sigma_hu,
            stage_arg=self._bm4d.BM4DStages.HARD_THRESHOLDING,
        )
        rows, columns = slice_hu.shape
        denoised_hu = np.array(denoised_hu[:rows, :columns, len(before)], np.float32)
        return denoised_hu if padding is None else np.where(padding, slice_hu, denoised_hu).astype(np.float32)
