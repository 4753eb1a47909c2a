"""Local convolution as a layer."""

from collections.abc import Sequence
from typing import Any

import keras

from kpn_tf.layers.hu_layer import HULayer
from kpn_tf.ops.hu_input import expect_slices
from kpn_tf.ops.local_conv import kernel_side, local_conv


@keras.saving.register_keras_serializable("kpn_tf")
class LocalConv(HULayer):
    """Filters every pixel with a kernel of its own; see `kpn_tf.ops.local_conv.local_conv`.

    Call it with a list `[image, kernels]`: `(B, H, W, 1)` in HU and `(B, H, W, k * k)`, with `H, W > k // 2`. It has no
    weights, and computes in float32 under every dtype policy.

    Raises:
        ValueError: When called, if the image is not of this shape, no floats or not finite, or the kernels have not
            the square of an odd number of taps.

    Example:

    >>> import numpy as np
    >>> image = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    >>> kernels = np.zeros((1, 5, 5, 9), "float32")
    >>> kernels[..., 4] = 1.0  # the centre tap alone: nothing changes
    >>> bool(np.all(np.asarray(LocalConv()([image, kernels])) == image))
    True
    """

    def __call__(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        image, kernels = inputs
        expect_slices(image, least=kernel_side(kernels.shape[-1]) // 2 + 1)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Sequence[Any]) -> Any:
        image, kernels = inputs
        return local_conv(image, kernels)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return input_shape[0]
