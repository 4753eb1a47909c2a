"""RED-CNN, the residual encoder-decoder that the paper compares kernel prediction with."""

from typing import Any

import keras
from keras import ops

from kpn_tf.hounsfield import UNIT_HU, WINDOWS
from kpn_tf.networks.slice_network import SliceNetwork
from kpn_tf.ops.limits import within_limits

KERNEL_SIZE = 5
# Convolutions, and as many transposed ones.
DEPTH = 5

# Smallest side that leaves a pixel after the convolutions, none of which is padded.
MINIMUM_SIDE = DEPTH * (KERNEL_SIZE - 1) + 1

# The last ReLU cuts what lies below zero of the unit scale, which must therefore be the lowest HU there are.
_ZERO_HU = WINDOWS["full"].low_hu


@keras.saving.register_keras_serializable("kpn_tf")
class REDCNN(SliceNetwork):
    """Slices `(B, H, W, 1)` in HU in, denoised slices in HU out, for any `H, W >= 21`.

    Five convolutions and five transposed ones, 5×5, none padded, ReLU after each. The outputs of the fourth and
    second convolution are added to those of the first and third transposed one, the slice to that of the fifth,
    before the ReLU. 1,848,865 parameters with 96 channels.

    Inside, the scale is `(HU + 1024) / 400`; because of the last ReLU nothing that it sees
    comes out below -1024 HU.
    **Untrained:** the weights are random until they are trained or loaded; `REDCNN.from_preset` has trained ones.

    The convolutions compute in the network's dtype policy, the sum with the slice in float32.

    Args:
        channels: Of every convolution but the last; the source has 96.
        dtype: Dtype policy of the convolutions; the global one if `None`.
        trainable: As in every Keras layer.
        name: As in every Keras layer.

    Raises:
        ValueError: When called, if the input is not of this shape, no floats or not finite.

    Example:

    >>> import numpy as np
    >>> network = REDCNN()
    >>> tuple(network(np.zeros((1, 23, 31, 1), "float32")).shape), network.count_params()
    ((1, 23, 31, 1), 1848865)

    Source: Chen et al., "Low-dose CT with a residual encoder-decoder convolutional neural network", IEEE Trans
    Med Imaging 36 (2017), Fig. 1.
    """

    def __init__(
        self, channels: int = 96, *, dtype: Any = None, trainable: bool = True, name: str | None = None
    ):
        super().__init__(dtype=dtype, trainable=trainable, name=name)
        if channels < 1:
            raise ValueError(f"Expected one channel or more. Received: {channels}")
        self.channels = channels
        policy = self.dtype_policy
        self.encoder = [
            keras.layers.Conv2D(channels, KERNEL_SIZE, activation="relu", dtype=policy) for _ in range(DEPTH)
        ]
        self.decoder = [
            keras.layers.Conv2DTranspose(out, KERNEL_SIZE, dtype=policy)
            for out in [*[channels] * (DEPTH - 1), 1]
        ]
        self._ready()

    def build(self, input_shape):
        self.encoder[0].build(input_shape)
        for layer in [*self.encoder[1:], *self.decoder]:
            layer.build((*input_shape[:-1], self.channels))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}

    def call(self, slice_hu):
        return within_limits(self._encoded_and_decoded, slice_hu)

    def _encoded_and_decoded(self, seen_hu):
        scaled = (seen_hu - _ZERO_HU) / UNIT_HU
        features, encoded = scaled, []
        for convolution in self.encoder:
            features = convolution(features)
            encoded.append(features)
        shortcuts = [encoded[3], None, encoded[1], None, scaled]
        for convolution, shortcut in zip(self.decoder, shortcuts, strict=True):
            features = convolution(features)
            if shortcut is not None:
                features = ops.cast(features, shortcut.dtype) + shortcut
            features = ops.relu(features)
        return features * UNIT_HU + _ZERO_HU

    def denoise_whole(self, slice_hu: Any) -> Any:
        """The network as it is exported, which is the network itself.

        Args:
            slice_hu: Slices `(B, H, W, 1)` in HU.

        Returns:
            Denoised slices `(B, H, W, 1)` in HU.
        """
        return self.call(slice_hu)

    @property
    def title(self):
        """What an artefact and a table call this network."""
        return "RED-CNN"

    @property
    def multiple(self):
        """What both sides of a slice must divide by in `denoise_whole`."""
        return 1

    @property
    def least_side(self):
        """Smallest side of a slice in pixels."""
        return MINIMUM_SIDE

    @property
    def reach(self):
        """How far an output pixel looks, in pixels: the convolutions one way, the transposed ones the other."""
        return DEPTH * (KERNEL_SIZE - 1)
