"""StructKPN: a network that predicts one filter kernel for every pixel."""

import keras
import numpy as np
from keras import ops

from kpn_tf.layers import FilterMixture, LocalConv
from kpn_tf.networks.trunks import EdgeTrunk, PaperTrunk
from kpn_tf.ops.border import reflect_to_multiple
from kpn_tf.ops.limits import limited, within_limits
from kpn_tf.ops.local_conv import kernel_side

PRESETS = ("paper", "edge")
# What both sides of a slice must divide by inside the graph; other sizes are mirrored up to it and cropped.
_MULTIPLE = {"paper": 1, "edge": 4}
EDGE_FILTERS = 32


# Of the kernels that `paper` starts from, in pixels. From equal taps, a blur over the whole kernel, its first
# hundreds of steps go into becoming a filter at all.
_FIRST_SIGMA = 1.0


def _gaussian_scores(shape, dtype=None):
    """Scores `(k * k,)` whose softmax is a Gaussian filter."""
    side = kernel_side(shape[0])
    offsets = np.arange(side) - side // 2
    squares = offsets[:, None] ** 2 + offsets**2
    return ops.convert_to_tensor(-squares.ravel() / (2 * _FIRST_SIGMA**2), dtype=dtype)


@keras.saving.register_keras_serializable("kpn_tf")
class StructKPN(keras.Model):
    """Kernel prediction network: slices `(B, H, W, 1)` in HU in, denoised slices in HU out.

    Preset `"paper"` is the network of the paper: free kernels, softmax over the `k * k` taps. Its scores start from
    those of a Gaussian filter, on which the paper is silent.
    Preset `"edge"` is this project's, not the paper's: a small trunk at reduced resolution, and kernels that are
    mixtures of 32 learnt unit-sum filters, applied as a filter bank.

    In both every kernel sums to one, so a constant slice comes back unchanged and flat tissue keeps its HU. Values
    beyond `kpn_tf.hounsfield.SEEN`, such as metal, are limited before the network, and the excess is added to what it
    returns.
    Any `H, W >= kernel_size`. The trunk computes in Keras's global dtype policy, everything that touches HU in
    float32.

    Args:
        preset: `"paper"` or `"edge"`.
        kernel_size: Odd side `k` of the kernels; for `"edge"` a multiple of 2 plus one.

    Raises:
        ValueError: If the preset is unknown or the kernel size even or below 3.

    Example:

    >>> import numpy as np
    >>> network = StructKPN("edge")
    >>> flat = np.full((1, 33, 41, 1), 40.0, "float32")
    >>> bool(np.allclose(network(flat), 40.0, atol=1e-3))
    True

    Source: Xu et al., ICIP 2021 (preset `"paper"`).
    """

    def __init__(self, preset="paper", kernel_size=21, name=None):
        super().__init__(name=name, dtype="float32")
        if preset not in PRESETS:
            raise ValueError(f"Expected preset to be one of {PRESETS}. Received: {preset!r}")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"Expected an odd kernel_size of 3 or more. Received: {kernel_size}")
        self.preset = preset
        self.kernel_size = kernel_size
        policy = keras.config.dtype_policy()
        if preset == "paper":
            taps = kernel_size * kernel_size
            self.trunk = PaperTrunk(name="trunk", dtype=policy)
            self.predictor = keras.Sequential(
                [
                    # Both in float32: in half precision an odd number of channels trains several times slower.
                    keras.layers.Conv2D(taps, 1, activation="relu", dtype="float32"),
                    keras.layers.Conv2D(taps, 1, bias_initializer=_gaussian_scores, dtype="float32"),
                ],
                name="predictor",
            )
            self.filtering = LocalConv(dtype="float32")
        else:
            self.trunk = EdgeTrunk(name="trunk", dtype=policy)
            # Almost equal shares to start with: a softmax that starts saturated passes no gradient back.
            self.predictor = keras.layers.Conv2D(
                4 * EDGE_FILTERS,
                1,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                dtype="float32",
                name="predictor",
            )
            self.filtering = FilterMixture(
                kernel_size, EDGE_FILTERS, stride=2, dtype="float32", name="mixture"
            )
        # The variables exist from here on: a network can be saved, counted and loaded before its first slice.
        self.trunk.build((None, None, None, 1))
        self.predictor.build((None, None, None, self.trunk.channels))
        self.filtering.build(None)
        self.built = True

    def call(self, slice_hu):
        denoised = self.denoise_whole(reflect_to_multiple(slice_hu, self.multiple))
        shape = ops.shape(slice_hu)
        return denoised[:, : shape[1], : shape[2], :]

    def denoise_whole(self, slice_hu):
        """The network on slices whose sides divide by `multiple`.

        Args:
            slice_hu: Slices `(B, H, W, 1)` in HU.

        Returns:
            Denoised slices `(B, H, W, 1)` in HU.
        """
        return within_limits(self._filtered, slice_hu)

    def _filtered(self, seen_hu):
        scores = self.predictor(self.trunk(seen_hu))
        if self.preset == "paper":
            return self.filtering([seen_hu, ops.softmax(scores, axis=-1)])
        return self.filtering([seen_hu, scores])

    @property
    def title(self):
        """What the network is called."""
        return f"StructKPN-{self.preset}"

    @property
    def multiple(self):
        """What both sides of a slice must divide by in `denoise_whole`."""
        return _MULTIPLE[self.preset]

    @property
    def reach(self):
        """How far an output pixel looks, in pixels."""
        return max(self.trunk.reach, self.kernel_size // 2)

    def kernels_at(self, slice_hu, rows, columns):
        """The kernels that were applied at chosen pixels, to the slice within `kpn_tf.hounsfield.SEEN`.

        Args:
            slice_hu: One slice `(H, W)` in HU.
            rows: Rows of the pixels, a sequence of N integers in `[0, H)`.
            columns: Columns of the pixels, likewise in `[0, W)`.

        Returns:
            NumPy array `(N, k, k)`; tap `(i, j)` weighs the pixel at row offset `i - k // 2` and column offset
            `j - k // 2`. Each kernel sums to one.

        Raises:
            ValueError: If the slice is not two-dimensional or a pixel lies outside it.
        """
        slice_hu = np.asarray(slice_hu, "float32")
        rows, columns = np.atleast_1d(rows), np.atleast_1d(columns)
        if slice_hu.ndim != 2:
            raise ValueError(f"Expected one slice of shape (H, W). Received: shape {slice_hu.shape}")
        if np.any((rows < 0) | (rows >= slice_hu.shape[0]) | (columns < 0) | (columns >= slice_hu.shape[1])):
            raise ValueError(
                f"Expected pixels inside a slice of shape {slice_hu.shape}. Received: one outside"
            )
        size = self.kernel_size
        batch = limited(ops.convert_to_tensor(slice_hu[None, :, :, None]))
        if self.preset == "paper":
            features = ops.convert_to_numpy(self.trunk(batch))[0, rows, columns]  # (N, 88)
            taps = ops.softmax(self.predictor(features[:, None, None, :]), axis=-1)
            return ops.convert_to_numpy(taps).reshape(-1, size, size)
        scores = self.predictor(self.trunk(reflect_to_multiple(batch, self.multiple)))
        shares = ops.convert_to_numpy(self.filtering.shares(scores))[0]  # (H/2, W/2, 4 * C)
        phase = (rows % 2) * 2 + columns % 2
        shares = shares.reshape(*shares.shape[:2], 4, EDGE_FILTERS)[rows // 2, columns // 2, phase]  # (N, C)
        return np.einsum("nc,ijc->nij", shares, ops.convert_to_numpy(self.filtering.unit_sum_bank()))

    def get_config(self):
        return {"preset": self.preset, "kernel_size": self.kernel_size, "name": self.name}
