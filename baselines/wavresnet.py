"""WavResNet, the wavelet residual network that the paper compares kernel prediction with."""

from typing import Any

import keras
from keras import ops

from baselines import contourlet
from kpn_tf.hounsfield import UNIT_HU
from kpn_tf.networks.slice_network import SliceNetwork
from kpn_tf.ops.limits import limited

FEATURES = 128
MODULES = 6
# Convolutions at the entrance, in each module and after the concatenation; one more makes the coefficients.
DEPTH, MERGING_DEPTH = 3, 2
KERNEL_SIZE = 3


@keras.saving.register_keras_serializable("kpn_tf")
class WavResNet(SliceNetwork):
    """Slices `(B, H, W, 1)` in HU in, denoised slices in HU out, for any `H, W >= 13`.

    The slice, in units of 400 HU, is split into 15 contourlet bands (`baselines.contourlet`), the network predicts
    the noise of each, and the slice less the predictions is the output. Three convolutions 3×3 to 128 channels;
    six modules of three, each followed by the sum with the module's input and a ReLU; the seven outputs side by
    side (896 channels), two convolutions back to 128, one to the 15 bands. Each convolution but the last is
    followed by batch normalisation and ReLU; inside the network the border is zeros. 4,169,231 trained parameters.

    What differs from the paper: the transform has other filters (see `contourlet.analysis`), and its bands add up
    to the slice. Plainly added, the 15 predictions would be no more than one for a loss on slices (the paper's is
    on the bands), and the first steps of Adam at a rate of 1e-4 moved slices by more than 100 HU. So each
    prediction first passes the filter of its band (`contourlet.confine`), as in the paper's synthesis it passes
    one of nearly the same frequencies.

    **Untrained:** the weights are random until they are trained or loaded; `WavResNet.from_preset` has trained ones.
    The convolutions compute in the network's dtype policy, the transform and the last convolution in float32.

    Args:
        dtype: Dtype policy of the convolutions; the global one if `None`.
        trainable: As in every Keras layer.
        name: As in every Keras layer.

    Raises:
        ValueError: When called, if the input is not of this shape, no floats or not finite.

    Example:

    >>> import numpy as np
    >>> network = WavResNet()
    >>> tuple(network(np.zeros((1, 15, 19, 1), "float32")).shape)
    (1, 15, 19, 1)

    Source: Kang et al., "Deep convolutional framelet denoising for low-dose CT via wavelet residual network",
    IEEE Trans Med Imaging 37 (2018); widths, depths and the start of the last convolution from its authors' code.
    """

    def __init__(self, *, dtype: Any = None, trainable: bool = True, name: str | None = None):
        super().__init__(dtype=dtype, trainable=trainable, name=name)
        self.entrance = _convolutions(DEPTH, self.dtype_policy)
        self.modules = [_convolutions(DEPTH, self.dtype_policy) for _ in range(MODULES)]
        self.merging = _convolutions(MERGING_DEPTH, self.dtype_policy)
        # The authors' start, from which the untrained network adds little: Keras's own would add hundreds of HU.
        self.head = keras.layers.Conv2D(
            contourlet.CHANNELS,
            KERNEL_SIZE,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
        )
        self._ready()

    def build(self, input_shape):
        sides = input_shape[:-1]
        self.entrance.build((*sides, contourlet.CHANNELS))
        for module in self.modules:
            module.build((*sides, FEATURES))
        self.merging.build((*sides, (1 + MODULES) * FEATURES))
        self.head.build((*sides, FEATURES))

    def call(self, slice_hu, training=None):
        bands = contourlet.analysis(limited(slice_hu) / UNIT_HU)  # (B, H, W, 15)
        outputs = [self.entrance(bands, training=training)]
        for module in self.modules:
            outputs.append(ops.relu(module(outputs[-1], training=training) + outputs[-1]))
        merged = self.merging(ops.concatenate(outputs, axis=-1), training=training)
        return slice_hu - contourlet.confine(self.head(merged)) * UNIT_HU

    def denoise_whole(self, slice_hu: Any) -> Any:
        """The network as it is exported: batch normalisation by the statistics of the training.

        Args:
            slice_hu: Slices `(B, H, W, 1)` in HU.

        Returns:
            Denoised slices `(B, H, W, 1)` in HU.
        """
        return self.call(slice_hu, training=False)

    @property
    def title(self):
        """What an artefact and a table call this network."""
        return "WavResNet"

    @property
    def multiple(self):
        """What both sides of a slice must divide by in `denoise_whole`."""
        return 1

    @property
    def least_side(self):
        """Smallest side of a slice in pixels."""
        return contourlet.MINIMUM_SIDE

    @property
    def reach(self):
        """How far an output pixel looks, in pixels: the transform, the convolutions in a chain, the transform."""
        chain = DEPTH + MODULES * DEPTH + MERGING_DEPTH + 1
        return chain * (KERNEL_SIZE // 2) + 2 * contourlet.REACH


def _convolutions(depth, policy):
    """So many convolutions, each with batch normalisation (whose offset is the bias) and ReLU."""
    layers = []
    for _ in range(depth):
        layers += [
            keras.layers.Conv2D(FEATURES, KERNEL_SIZE, padding="same", use_bias=False, dtype=policy),
            # Keras's own momentum would still hold an eighth of the initial statistics after 200 steps.
            keras.layers.BatchNormalization(momentum=0.9, dtype=policy),
            keras.layers.ReLU(dtype=policy),
        ]
    return keras.Sequential(layers)
