"""A layer through which HU pass."""

import keras


class HULayer(keras.layers.Layer):
    """Computes in float32 under every dtype policy: in half precision a pixel of -997 HU would be another one."""

    @property
    def compute_dtype(self):
        """`"float32"`, whatever the dtype policy."""
        return "float32"
