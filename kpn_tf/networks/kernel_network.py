"""What networks that predict a kernel for every pixel have in common."""

import keras
import numpy as np

from kpn_tf.networks.slice_network import SliceNetwork


class KernelNetwork(SliceNetwork):
    """A `SliceNetwork` with a `trunk`, from whose features it predicts kernels of side `kernel_size`."""

    @property
    def least_side(self) -> int:
        """Smallest side of a slice in pixels: that of a kernel."""
        return self.kernel_size

    @property
    def reach(self) -> int:
        """How far an output pixel looks, in pixels."""
        return max(self.trunk.reach, self.kernel_size // 2)

    @staticmethod
    def _share_predictor(shares):
        # Almost equal shares to start with: a softmax that starts saturated passes no gradient back.
        return keras.layers.Conv2D(
            shares,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype="float32",
            name="predictor",
        )

    @staticmethod
    def _pixels(rows, columns, shape):
        """The chosen pixels as two arrays `(N,)`, all inside of a slice of this shape."""
        rows, columns = np.atleast_1d(rows), np.atleast_1d(columns)
        if np.any((rows < 0) | (rows >= shape[0]) | (columns < 0) | (columns >= shape[1])):
            raise ValueError(f"Expected pixels inside a slice of shape {shape}. Received: one outside")
        return rows, columns
