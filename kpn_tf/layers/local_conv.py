"""Local convolution as a layer."""

import keras

from kpn_tf.ops.local_conv import local_conv


@keras.saving.register_keras_serializable("kpn_tf")
class LocalConv(keras.layers.Layer):
    """Filters every pixel with a kernel of its own; see `kpn_tf.ops.local_conv.local_conv`.

    Call it with a list `[image, kernels]`: `(B, H, W, 1)` and `(B, H, W, k * k)`. It has no weights.

    Example:

    >>> import numpy as np
    >>> image = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
    >>> kernels = np.zeros((1, 5, 5, 9), "float32")
    >>> kernels[..., 4] = 1.0  # the centre tap alone: nothing changes
    >>> bool(np.all(np.asarray(LocalConv()([image, kernels])) == image))
    True
    """

    def call(self, inputs):
        image, kernels = inputs
        return local_conv(image, kernels)

    def compute_output_shape(self, input_shape):
        return input_shape[0]
