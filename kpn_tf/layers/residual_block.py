"""The residual block of every trunk."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kpn_tf")
class ResidualBlock(keras.layers.Layer):
    """`x + conv(relu(conv(x)))` with 3×3 convolutions and zero padding; no normalisation, no ReLU after the sum.

    Args:
        channels: Features in and out.
        groups: Groups that each convolution is split into. They are parallel convolutions and a concatenation:
            a grouped convolution trains several times slower on a CPU.

    Raises:
        ValueError: If the channels do not divide into the groups.

    Source: Xu et al., ICIP 2021, Fig. 1.
    """

    def __init__(self, channels: int, groups: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if channels % groups:
            raise ValueError(f"Expected channels that {groups} groups can share. Received: {channels}")
        self.channels = channels
        self.groups = groups
        self.first = self._convolutions()
        self.second = self._convolutions()

    def _convolutions(self):
        return [
            keras.layers.Conv2D(self.channels // self.groups, 3, padding="same", dtype=self.dtype_policy)
            for _ in range(self.groups)
        ]

    def build(self, input_shape: Any) -> None:
        shape = (*input_shape[:-1], self.channels // self.groups)
        for convolution in [*self.first, *self.second]:
            convolution.build(shape)

    def call(self, features: Any) -> Any:
        # No group sees another until the block ends: one split and one concatenation are enough.
        parts = ops.split(features, self.groups, axis=-1) if self.groups > 1 else [features]
        changes = [
            second(ops.relu(first(part)))
            for first, second, part in zip(self.first, self.second, parts, strict=True)
        ]
        return features + (ops.concatenate(changes, axis=-1) if self.groups > 1 else changes[0])

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "groups": self.groups}
