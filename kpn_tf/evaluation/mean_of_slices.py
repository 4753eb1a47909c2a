"""The mean of a slice and its neighbours: what a denoiser that sees neighbours must be better than."""

import numpy as np


class MeanOfSlices:
    """A slab of neighbouring slices, as a reader makes it: quieter, and blurred along z.

    Args:
        slices: Slices of the slab, odd.
    """

    def __init__(self, slices=3):
        self.slices = slices

    def __call__(self, slice_hu, padding=None, neighbours=()):
        """The mean; of what is there at the ends of a series.

        Args:
            slice_hu: `(H, W)` in HU.
            padding: `(H, W)` bool, true where the slice comes back as it is, or `None`.
            neighbours: As of `kpn_tf.denoiser.Denoiser`.

        Returns:
            New float32 `(H, W)` in HU.
        """
        there = [np.asarray(one.slice_hu, np.float32) for one in neighbours if one is not None]
        mean_hu = np.mean([slice_hu, *there], axis=0, dtype=np.float32)
        return mean_hu if padding is None else np.where(padding, slice_hu, mean_hu)
