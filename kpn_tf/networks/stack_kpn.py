"""StackKPN: a network that predicts kernels over neighbouring slices."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kpn_tf.kernels import mixed
from kpn_tf.layers import StackMixture
from kpn_tf.networks.kernel_network import KernelNetwork
from kpn_tf.networks.trunks import StackTrunk
from kpn_tf.ops.border import reflect_to_multiple
from kpn_tf.ops.limits import limited

SLICES = (3, 5)


@keras.saving.register_keras_serializable("kpn_tf")
class StackKPN(KernelNetwork):
    """Kernel prediction network for CT slices with their neighbours: the middle slice of a stack is denoised.

    Call it with `[stack, distances]`: `(B, H, W, S)` in HU, and `(B, S)` in mm from the middle slice, without sign; it
    returns `(B, H, W, 1)` in HU. For a neighbour that is not there (the ends of a series, a gap, a single slice) give
    the middle slice again, at distance 0: `kpn_tf.denoiser.stacked` does.

    Every pixel gets a kernel for each slice, mixtures of learnt unit-sum filters with one softmax over the filters of
    all slices: together their taps sum to one, so a constant stack comes back unchanged. Applied as a bank, small
    filters at full resolution and wide ones on 2×2 means. HU beyond `kpn_tf.hounsfield.SEEN` are limited before the
    network; of the middle slice the excess is added to what it returns. Any `H, W >= kernel_size`. The trunk computes
    in the network's dtype policy, everything that touches HU in float32.
    **Untrained:** the weights are random until they are trained or loaded.

    Args:
        slices: Slices `S` of a stack: 3 or 5.
        kernel_size: Side `k` of the kernels, 9 or more, a multiple of 4 plus one.
        channels: Features at half resolution, which the kernels are predicted from.
        wide_channels: Features at a quarter of the resolution.
        blocks: Residual blocks there.
        dtype: Dtype policy of the trunk; the global one if `None`.
        trainable: As in every Keras layer.
        name: As in every Keras layer.

    Raises:
        ValueError: If an argument is out of range. When called, if the inputs are not of these shapes, no floats or
            not finite.

    Example:

    >>> network = StackKPN(3)
    >>> flat = np.full((1, 33, 41, 3), 40.0, "float32")
    >>> distances = np.float32([[1.0, 0.0, 1.0]])
    >>> bool(np.allclose(network([flat, distances]), 40.0, atol=1e-3))
    True

    Source: this project's; after Xu et al., ICIP 2021 (kernels for every pixel of a slice), and Mildenhall et al., CVPR
    2018 (kernels over the frames of a burst).
    """

    def __init__(
        self,
        slices: int = 5,
        kernel_size: int = 21,
        *,
        channels: int = 32,
        wide_channels: int = 64,
        blocks: int = 3,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
    ):
        super().__init__(slices=slices, dtype=dtype, trainable=trainable, name=name)
        if slices not in SLICES:
            raise ValueError(f"Expected slices to be one of {SLICES}. Received: {slices}")
        if min(channels, wide_channels, blocks) < 1:
            raise ValueError(
                f"Expected channels, wide_channels and blocks of 1 or more. Received: {channels}, {wide_channels}, "
                f"{blocks}"
            )
        self.kernel_size = kernel_size
        self.trunk = StackTrunk(
            slices, channels, wide_channels, blocks, name="trunk", dtype=self.dtype_policy
        )
        self.filtering = StackMixture(kernel_size, slices, dtype="float32", name="mixture")
        self.predictor = self._share_predictor(4 * self.filtering.filters)
        self._ready()

    def build(self, input_shape: Any) -> None:
        self.trunk.build(input_shape)
        features = (None, None, None, self.trunk.channels)
        self.predictor.build(features)
        self.filtering.build([input_shape[0], features])

    def call(self, inputs: Sequence[Any]) -> Any:
        stack_hu, distances_mm = inputs
        denoised = self.denoise_whole([reflect_to_multiple(stack_hu, self.multiple), distances_mm])
        shape = ops.shape(stack_hu)
        return denoised[:, : shape[1], : shape[2], :]

    def denoise_whole(self, inputs: Sequence[Any]) -> Any:
        """The network on stacks whose sides divide by `multiple`.

        Args:
            inputs: `[stack, distances]`: `(B, H, W, S)` in HU and `(B, S)` in mm.

        Returns:
            Denoised slices `(B, H, W, 1)` in HU.
        """
        stack_hu, distances_mm = inputs
        seen_hu = limited(stack_hu)
        features = self.trunk([seen_hu, distances_mm])
        denoised_hu = self.filtering([seen_hu, features], predictor=self.predictor)
        middle = self.slices // 2
        return denoised_hu + (stack_hu - seen_hu)[..., middle : middle + 1]

    def shares(self, inputs: Sequence[Any]) -> Any:
        """How much of each filter every pixel takes, on stacks whose sides divide by `multiple`.

        Args:
            inputs: `[stack, distances]`: `(B, H, W, S)` in HU and `(B, S)` in mm.

        Returns:
            The phases `(B, H/2, W/2, 4 * C)` of the shares, the first slice's filters first; of sum one at every pixel.
        """
        stack_hu, distances_mm = inputs
        return ops.concatenate(self._shares([limited(stack_hu), distances_mm]), axis=-1)

    def _shares(self, seen):
        return self.filtering.shares(self.predictor(self.trunk(seen)))

    @property
    def title(self) -> str:
        """What the network is called."""
        return f"StackKPN-{self.slices}"

    @property
    def multiple(self) -> int:
        """What both sides of a slice must divide by in `denoise_whole`; others are mirrored up to it and cropped."""
        return 4

    def kernels_at(
        self, stack_hu: ArrayLike, distances_mm: ArrayLike, rows: ArrayLike, columns: ArrayLike
    ) -> np.ndarray:
        """The kernels that were applied at chosen pixels, to slices within `kpn_tf.hounsfield.SEEN`.

        Args:
            stack_hu: One stack `(H, W, S)` in HU.
            distances_mm: Of its slices from the middle one, `(S,)`.
            rows: Rows of the pixels, a sequence of N integers in `[0, H)`.
            columns: Columns of the pixels, likewise in `[0, W)`.

        Returns:
            NumPy array `(N, S, k, k)`; tap `(i, j)` weighs the pixel at row offset `i - k // 2` and column offset
            `j - k // 2`. The taps for a pixel sum to one over all slices.

        Raises:
            ValueError: If the stack has another shape, or a pixel lies outside it.
        """
        stack_hu = np.asarray(stack_hu, "float32")
        if stack_hu.ndim != 3 or stack_hu.shape[2] != self.slices:
            raise ValueError(
                f"Expected one stack of shape (H, W, {self.slices}). Received: shape {stack_hu.shape}"
            )
        rows, columns = self._pixels(rows, columns, stack_hu.shape[:2])
        batch = reflect_to_multiple(limited(ops.convert_to_tensor(stack_hu[None])), self.multiple)
        distances = ops.convert_to_tensor(np.asarray(distances_mm, "float32")[None])
        shares = np.stack(
            [ops.convert_to_numpy(phase)[0] for phase in self._shares([batch, distances])], axis=2
        )
        phases = rows % 2 * 2 + columns % 2
        return mixed(shares[rows // 2, columns // 2, phases], self.filtering.kernels(), phases)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "slices": self.slices,
            "kernel_size": self.kernel_size,
            "channels": self.trunk.channels,
            "wide_channels": self.trunk.wide_channels,
            "blocks": len(self.trunk.blocks),
        }
