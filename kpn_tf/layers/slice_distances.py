"""What a network is told of where the slices of a stack lie."""

from typing import Any

import keras
from keras import ops

# The distances at which what a neighbour says falls to 1/e: about a thin slice's and a thick one's.
_FALL_MM = (1.5, 6.0)


@keras.saving.register_keras_serializable("kpn_tf")
class SliceDistances(keras.layers.Layer):
    """Features of the distances of a stack's slices: `(B, S)` in mm to `(B, 1, 1, channels)`.

    A distance of 0 says that there is no such neighbour (and of the middle slice, nothing). Each distance enters
    as whether the slice is there and as two exponentials of it, through one dense layer without bias: of single
    slices the features are zero.

    Args:
        channels: Number of features.
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.dense = keras.layers.Dense(channels, use_bias=False, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.dense.build((input_shape[0], (1 + len(_FALL_MM)) * input_shape[1]))

    def call(self, distances_mm: Any) -> Any:
        there = ops.cast(distances_mm > 0, distances_mm.dtype)
        falling = [there * ops.exp(-distances_mm / mm) for mm in _FALL_MM]
        features = self.dense(ops.concatenate([there, *falling], axis=-1))
        return ops.expand_dims(ops.expand_dims(features, 1), 1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (input_shape[0], 1, 1, self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}
