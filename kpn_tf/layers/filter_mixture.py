"""A mixture of learnt unit-sum filters as a layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kpn_tf.layers.hu_layer import HULayer
from kpn_tf.ops.filter_bank import denoising_filters, mixture_of_filters
from kpn_tf.ops.hu_input import expect_slices


@keras.saving.register_keras_serializable("kpn_tf")
class FilterMixture(HULayer):
    """Filters every pixel with a convex mixture of a learnt bank of filters that each sum to one.

    Call it with a list `[image, scores]`: `(B, H, W, 1)` in HU and the phases `(B, H/s, W/s, s * s * filters)` of
    the scores; a softmax over the filters turns scores into shares. Every kernel
    `sum_c share_c filter_c` sums to one. It computes, and keeps its filters, in float32 under every dtype policy.

    Args:
        kernel_size: Odd side `k` of the filters.
        filters: Number of filters `C`, 9 or more.
        stride: Phases per axis, `s`; `k - 1` is a multiple of it.

    Raises:
        ValueError: When built, if there are too few filters; when called, if `k - 1` is no multiple of the stride, or
            the image is not of this shape, no floats or not finite.

    Source: the derivation in `kpn_tf.ops.filter_bank`.
    """

    def __init__(self, kernel_size: int, filters: int, stride: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.filters = filters
        self.stride = stride

    def __call__(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        expect_slices(inputs[0], least=self.kernel_size // 2 + 1)
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        start = denoising_filters(self.kernel_size, self.filters)
        self.bank = self.add_weight(
            name="bank",
            shape=start.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(start, dtype),
            dtype="float32",
            autocast=False,
        )

    def unit_sum_bank(self) -> Any:
        """The filters as they are applied, `(k, k, C)`, each of sum one."""
        # Shifting every tap alike, rather than dividing, is defined for any sum.
        excess = ops.sum(self.bank, axis=(0, 1), keepdims=True) - 1.0
        return self.bank - excess / (self.kernel_size * self.kernel_size)

    def shares(self, scores: Any) -> Any:
        """Softmax over the filters of the phases `(B, h, w, s * s * C)`, same shape."""
        phases = ops.split(scores, self.stride * self.stride, axis=-1)
        return ops.concatenate([ops.softmax(phase, axis=-1) for phase in phases], axis=-1)

    def call(self, inputs: Sequence[Any]) -> Any:
        image, scores = inputs
        return mixture_of_filters(image, self.shares(scores), self.unit_sum_bank(), self.stride)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "filters": self.filters,
            "stride": self.stride,
        }
