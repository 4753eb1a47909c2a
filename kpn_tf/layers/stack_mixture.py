"""A mixture of learnt unit-sum filters of all slices of a stack, as a layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kpn_tf.kernels import kernels_of_filters, wide_side
from kpn_tf.layers.hu_layer import HULayer
from kpn_tf.ops.filter_bank import gaussian_filters
from kpn_tf.ops.hu_input import expect_slices
from kpn_tf.ops.space_depth import depth_to_space
from kpn_tf.ops.stack_bank import small_responses, wide_responses

# Side of the small filters, and how many small and wide ones there are: the middle slice's, and each neighbour's.
# Numbers are (isotropic Gaussians, directions of elongated ones); the first isotropic filter of the middle is a delta.
_MIDDLE: dict[str, Any] = {"side": 9, "small": (4, 8), "wide": (4, 8)}
_NEIGHBOUR: dict[str, Any] = {"side": 7, "small": (2, 6), "wide": (2, 0)}


@keras.saving.register_keras_serializable("kpn_tf")
class StackMixture(HULayer):
    """Filters every pixel with a convex mixture of the filters of all slices, each of which sums to one.

    Call it with a list `[stack, scores]`: `(B, H, W, S)` and the phases `(B, H/2, W/2, 4 * C)` of the scores; one
    softmax over the filters of all slices turns scores into shares. Every kernel sums to one over all its taps.
    It computes, and keeps its filters, in float32 under every dtype policy.

    Args:
        kernel_size: Odd side `k` of the kernels, 21 or more by multiples of 2.
        slices: Slices `S` of a stack, odd; the middle one has more filters than the others.

    Raises:
        ValueError: When called, if the stack is not of this shape, no floats or not finite.

    Source: linear kernel prediction is a filter bank, `kpn_tf.ops.stack_bank`.
    """

    def __init__(self, kernel_size: int, slices: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.slices = slices
        self._kinds = [_MIDDLE if z == slices // 2 else _NEIGHBOUR for z in range(slices)]

    def __call__(self, inputs, *args, **kwargs):
        expect_slices(inputs[0], depth=self.slices, least=self.kernel_size // 2 + 1)
        return super().__call__(inputs, *args, **kwargs)

    @property
    def filters(self) -> Any:
        """Number of filters `C` of all slices."""
        return sum(sum(kind["small"]) + sum(kind["wide"]) for kind in self._kinds)

    def build(self, input_shape: Any) -> None:
        self.banks = []
        for z, kind in enumerate(self._kinds):
            sides = {"small": kind["side"], "wide": wide_side(self.kernel_size)}
            for name, side in sides.items():
                start = gaussian_filters(side, *kind[name], delta=kind is _MIDDLE and name == "small")
                weight = self.add_weight(
                    name=f"{name}_{z}",
                    shape=start.shape,
                    initializer=lambda shape, dtype=None, start=start: ops.convert_to_tensor(start, dtype),
                    dtype="float32",
                    autocast=False,
                )
                self.banks.append(weight)

    def unit_sum_banks(self) -> Any:
        """The filters as they are applied, for each slice the small ones `(n, n, C)` and the wide ones."""
        banks = [
            bank - (ops.sum(bank, axis=(0, 1), keepdims=True) - 1.0) / bank.shape[0] ** 2
            for bank in self.banks
        ]
        return list(zip(banks[::2], banks[1::2], strict=True))

    def kernels(self) -> Any:
        """Every filter as a kernel of every phase: NumPy arrays `(4, k, k, C)`, one for each slice."""
        return [kernels_of_filters(*map(ops.convert_to_numpy, filters)) for filters in self.unit_sum_banks()]

    def shares(self, scores: Any) -> Any:
        """Softmax over the filters of all slices: four phases `(B, H/2, W/2, C)`, row phase slowest."""
        return [ops.softmax(phase, axis=-1) for phase in ops.split(scores, 4, axis=-1)]

    def call(self, inputs: Sequence[Any]) -> Any:
        stack, scores = inputs
        responses = []
        for image, (small, wide) in zip(
            ops.split(stack, self.slices, axis=-1), self.unit_sum_banks(), strict=True
        ):
            responses += [small_responses(image, small), wide_responses(image, wide)]
        sums = [
            ops.sum(ops.concatenate(parts, axis=-1) * share, axis=-1, keepdims=True)
            for *parts, share in zip(*responses, self.shares(scores), strict=True)
        ]
        return depth_to_space(ops.concatenate(sums, axis=-1), 2)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (*input_shape[0][:-1], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "slices": self.slices}
