"""StructKPN: a network that predicts one filter kernel for every pixel."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kpn_tf.layers import FilterMixture, LocalConv
from kpn_tf.networks.kernel_network import KernelNetwork
from kpn_tf.networks.trunks import EdgeTrunk, PaperTrunk
from kpn_tf.ops.border import reflect_to_multiple
from kpn_tf.ops.limits import limited, within_limits
from kpn_tf.ops.local_conv import kernel_side
from kpn_tf.ops.space_depth import depth_to_space, space_to_depth

# What each preset stands for: arguments of `StructKPN`.
PRESETS = {
    "paper": {"trunk": "full", "channels": 88, "blocks": 24, "kernels": "free", "kernel_size": 21},
    "edge": {"trunk": "half", "channels": 32, "blocks": 4, "kernels": "mixture", "kernel_size": 21},
}
TRUNKS = {"full": PaperTrunk, "half": EdgeTrunk}
KERNELS = ("free", "mixture")
FILTERS = 32

# Phases per axis that a mixture is computed in.
_MIXTURE_STRIDE = 2

# Of the kernels that free ones start from, in pixels. From equal taps, a blur over the whole kernel, the first
# hundreds of steps go into becoming a filter at all.
_FIRST_SIGMA = 1.0


def _gaussian_scores(phases):
    """An initializer: in each of so many phases, scores `(k * k,)` whose softmax is a Gaussian filter."""

    def scores(shape, dtype=None):
        side = kernel_side(shape[0] // phases)
        offsets = np.arange(side) - side // 2
        squares = offsets[:, None] ** 2 + offsets**2
        return ops.convert_to_tensor(np.tile(-squares.ravel() / (2 * _FIRST_SIGMA**2), phases), dtype=dtype)

    return scores


@keras.saving.register_keras_serializable("kpn_tf")
class StructKPN(KernelNetwork):
    """Kernel prediction network: slices `(B, H, W, 1)` in HU in, denoised slices in HU out.

    **Untrained:** the weights are random until they are trained or loaded. `StructKPN.from_preset("edge")` has trained
    ones.

    Preset `"paper"` is the network of the paper: a trunk at full resolution and free kernels, softmax over the `k * k`
    taps. Their scores start from those of a Gaussian filter, on which the paper is silent.
    Preset `"edge"` is this project's, not the paper's: a small trunk at half resolution, and kernels that are
    mixtures of 32 learnt unit-sum filters, applied as a filter bank. A preset is no more than the arguments in
    `PRESETS`, each of which can be given instead.

    Every kernel sums to one, so a constant slice comes back unchanged and flat tissue keeps its HU. Values
    beyond `kpn_tf.hounsfield.SEEN`, such as metal, are limited before the network, and the excess is added to what it
    returns.
    Any `H, W >= kernel_size`. The trunk computes in the network's dtype policy, everything that touches HU in
    float32.

    Args:
        preset: `"paper"` or `"edge"`: where the other arguments come from that are not given.
        kernel_size: Odd side `k` of the kernels.
        trunk: `"full"`, two convolutions and `blocks` residual blocks in two groups at full resolution, or `"half"`:
            one block before and one after `blocks` of twice the channels at a quarter of the resolution.
        channels: Features that the kernels are predicted from; even for the trunk at full resolution.
        blocks: Residual blocks of the trunk.
        kernels: `"free"`, every tap predicted, or `"mixture"`, the shares of 32 learnt filters.
        dtype: Dtype policy of the trunk; the global one if `None`.
        trainable: As in every Keras layer.
        name: As in every Keras layer.

    Raises:
        ValueError: If an argument is unknown or out of range. When called, if the input is not of this shape, no
            floats or not finite.

    Example:

    >>> import numpy as np
    >>> network = StructKPN("edge", blocks=1, channels=8)
    >>> flat = np.full((1, 33, 41, 1), 40.0, "float32")
    >>> bool(np.allclose(network(flat), 40.0, atol=1e-3))
    True

    Source: Xu et al., ICIP 2021 (preset `"paper"`).
    """

    def __init__(
        self,
        preset: str = "paper",
        kernel_size: int | None = None,
        *,
        trunk: str | None = None,
        channels: int | None = None,
        blocks: int | None = None,
        kernels: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
    ):
        super().__init__(dtype=dtype, trainable=trainable, name=name)
        if preset not in PRESETS:
            raise ValueError(f"Expected preset to be one of {tuple(PRESETS)}. Received: {preset!r}")
        given = {
            "trunk": trunk,
            "channels": channels,
            "blocks": blocks,
            "kernels": kernels,
            "kernel_size": kernel_size,
        }
        chosen = _checked(
            PRESETS[preset] | {name: value for name, value in given.items() if value is not None}
        )
        self.preset = preset
        self.kernels = chosen["kernels"]
        self.kernel_size = chosen["kernel_size"]
        # What differs from the preset: the rest of the configuration is its name.
        self._changed = {name: value for name, value in chosen.items() if value != PRESETS[preset][name]}
        self.trunk = TRUNKS[chosen["trunk"]](
            channels=chosen["channels"], blocks=chosen["blocks"], name="trunk", dtype=self.dtype_policy
        )
        phases = self.trunk.stride**2
        if self.kernels == "free":
            taps = self.kernel_size**2
            self.predictor = keras.Sequential(
                [
                    # Both in float32: in half precision an odd number of channels trains several times slower.
                    keras.layers.Conv2D(taps, 1, activation="relu", dtype="float32"),
                    keras.layers.Conv2D(
                        phases * taps, 1, bias_initializer=_gaussian_scores(phases), dtype="float32"
                    ),
                ],
                name="predictor",
            )
            self.filtering = LocalConv(dtype="float32")
        else:
            self.predictor = self._share_predictor(phases * FILTERS)
            self.filtering = FilterMixture(
                self.kernel_size, FILTERS, stride=_MIXTURE_STRIDE, dtype="float32", name="mixture"
            )
        self._ready()

    def build(self, input_shape: Any) -> None:
        self.trunk.build(input_shape)
        self.predictor.build((*input_shape[:-1], self.trunk.channels))
        if self.kernels == "mixture":
            scores = (*input_shape[:-1], _MIXTURE_STRIDE**2 * FILTERS)
            self.filtering.build([(*input_shape[:-1], 1), scores])

    def call(self, slice_hu: Any) -> Any:
        denoised = self.denoise_whole(reflect_to_multiple(slice_hu, self.multiple))
        shape = ops.shape(slice_hu)
        return denoised[:, : shape[1], : shape[2], :]

    def denoise_whole(self, slice_hu: Any) -> Any:
        """The network on slices whose sides divide by `multiple`.

        Args:
            slice_hu: Slices `(B, H, W, 1)` in HU.

        Returns:
            Denoised slices `(B, H, W, 1)` in HU.
        """
        return within_limits(self._filtered, slice_hu)

    def _filtered(self, seen_hu):
        if self.kernels == "free":
            scores = self.predictor(self.trunk(seen_hu))  # (B, H/s, W/s, s * s * taps)
            if self.trunk.stride > 1:
                scores = depth_to_space(scores, self.trunk.stride)
            return self.filtering([seen_hu, ops.softmax(scores, axis=-1)])
        return self.filtering([seen_hu, self._mixture_scores(seen_hu)])

    def _mixture_scores(self, seen_hu):
        scores = self.predictor(self.trunk(seen_hu))  # (B, H/s, W/s, s * s * filters)
        return space_to_depth(scores, _MIXTURE_STRIDE) if self.trunk.stride == 1 else scores

    def shares(self, slice_hu: Any) -> Any:
        """How much of each learnt filter every pixel takes, on slices whose sides divide by `multiple`.

        Args:
            slice_hu: Slices `(B, H, W, 1)` in HU.

        Returns:
            The phases `(B, H/2, W/2, 4 * filters)` of the shares, row phase slowest; of sum one at every pixel.

        Raises:
            ValueError: If the kernels are free: there are no filters to take shares of.
        """
        if self.kernels == "free":
            raise ValueError(f"Expected a network of learnt filters. Received: {self.title}, of free kernels")
        return self.filtering.shares(self._mixture_scores(limited(slice_hu)))

    @property
    def title(self) -> str:
        """What the network is called: its preset, and what was changed in it but for the size of the kernels."""
        changed = [f"{name}={value}" for name, value in self._changed.items() if name != "kernel_size"]
        return ", ".join([f"StructKPN-{self.preset}", *changed])

    @property
    def multiple(self) -> int:
        """What both sides of a slice must divide by in `denoise_whole`; others are mirrored up to it and cropped."""
        return max(self.trunk.multiple, _MIXTURE_STRIDE if self.kernels == "mixture" else 1)

    def kernels_at(self, slice_hu: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> np.ndarray:
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
        if slice_hu.ndim != 2:
            raise ValueError(f"Expected one slice of shape (H, W). Received: shape {slice_hu.shape}")
        rows, columns = self._pixels(rows, columns, slice_hu.shape)
        batch = limited(ops.convert_to_tensor(slice_hu[None, :, :, None]))
        features = ops.convert_to_numpy(self.trunk(reflect_to_multiple(batch, self.multiple)))
        stride = self.trunk.stride
        features = features[0, rows // stride, columns // stride]  # (N, channels)
        scores = ops.convert_to_numpy(self.predictor(features[:, None, None, :]))
        scores = scores.reshape(len(rows), stride**2, -1)
        phase = rows % stride * stride + columns % stride
        shares = ops.convert_to_numpy(ops.softmax(scores[np.arange(len(rows)), phase], axis=-1))
        if self.kernels == "free":
            return shares.reshape(-1, self.kernel_size, self.kernel_size)
        return np.einsum("nc,ijc->nij", shares, ops.convert_to_numpy(self.filtering.unit_sum_bank()))

    def get_config(self) -> dict[str, Any]:
        arguments = {"preset": self.preset, "kernel_size": self.kernel_size, **self._changed}
        return {**super().get_config(), **arguments}


def _checked(arguments):
    """Arguments of a network that are known and in range."""
    kernel_size = arguments["kernel_size"]
    for name, known in (("trunk", tuple(TRUNKS)), ("kernels", KERNELS)):
        if arguments[name] not in known:
            raise ValueError(f"Expected {name} to be one of {known}. Received: {arguments[name]!r}")
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"Expected an odd kernel_size of 3 or more. Received: {kernel_size}")
    if arguments["channels"] < 1 or arguments["blocks"] < 0:
        raise ValueError(
            "Expected one channel or more, and no negative number of blocks. "
            f"Received: channels={arguments['channels']}, blocks={arguments['blocks']}"
        )
    return arguments
