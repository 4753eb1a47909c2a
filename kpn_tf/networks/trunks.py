"""What turns a slice into the features that kernels are predicted from."""

import keras
from keras import ops

from kpn_tf.hounsfield import UNIT_HU, WINDOWS
from kpn_tf.layers import ResidualBlock, SliceDistances
from kpn_tf.ops.space_depth import depth_to_space, space_to_depth


def _twice(stack_hu):
    """Slices `(B, H, W, S)` as HU / 400 and clipped to the soft-tissue window: `(B, H, W, 2 * S)`."""
    soft = WINDOWS["soft"]
    windowed = (ops.clip(stack_hu, soft.low_hu, soft.high_hu) - (soft.low_hu + soft.high_hu) / 2) / (
        soft.width_hu / 4
    )
    return ops.concatenate([stack_hu / UNIT_HU, windowed], axis=-1)


@keras.saving.register_keras_serializable("kpn_tf")
class PaperTrunk(keras.layers.Layer):
    """Source encoder and feature extractor of the paper: `(B, H, W, 1)` in HU to `(B, H, W, 88)`.

    Source: Xu et al., ICIP 2021, Fig. 1 (2 convolutions, then 24 residual blocks in 2 groups).
    """

    # Slice pixels per feature along each axis, and what the sides of a slice must divide by.
    stride, multiple = 1, 1

    def __init__(self, channels=88, blocks=24, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.encoder = [
            keras.layers.Conv2D(channels, 3, padding="same", activation=activation, dtype=self.dtype_policy)
            for activation in ("relu", None)
        ]
        self.blocks = [ResidualBlock(channels, groups=2, dtype=self.dtype_policy) for _ in range(blocks)]

    def build(self, input_shape):
        self.encoder[0].build(input_shape)
        features = (*input_shape[:-1], self.channels)
        for layer in [self.encoder[1], *self.blocks]:
            layer.build(features)

    def call(self, slice_hu):
        features = slice_hu / UNIT_HU
        for layer in [*self.encoder, *self.blocks]:
            features = layer(features)
        return features

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    @property
    def reach(self):
        """How far a feature looks, in pixels: one for each 3×3 convolution."""
        return 2 + 2 * len(self.blocks)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "blocks": len(self.blocks)}


@keras.saving.register_keras_serializable("kpn_tf")
class EdgeTrunk(keras.layers.Layer):
    """Features at half resolution with a quarter-resolution middle: `(B, H, W, 1)` in HU to `(B, H/2, W/2, c)`.

    One residual block at half resolution, `blocks` wider ones at a quarter, added back, and one more at half
    resolution: context costs a quarter there. The slice enters twice, as HU / 400 and clipped to the
    soft-tissue window, where most of what must be told apart lies within a tenth of the range.

    Args:
        channels: Features at half resolution.
        blocks: Residual blocks at a quarter.
        wide_channels: Features at a quarter; twice as many if `None`.
    """

    # Slice pixels per feature along each axis, and what the sides of a slice must divide by.
    stride, multiple = 2, 4

    def __init__(self, channels=32, blocks=4, wide_channels=None, **kwargs):
        super().__init__(**kwargs)
        wide_channels = 2 * channels if wide_channels is None else wide_channels
        self.channels = channels
        self.wide_channels = wide_channels
        dtype = self.dtype_policy
        self.encoder = keras.layers.Conv2D(channels, 3, padding="same", dtype=dtype)
        self.before = ResidualBlock(channels, dtype=dtype)
        self.down = keras.layers.Conv2D(wide_channels, 2, strides=2, dtype=dtype)
        self.blocks = [ResidualBlock(wide_channels, dtype=dtype) for _ in range(blocks)]
        self.up = keras.layers.Conv2D(4 * channels, 1, dtype=dtype)
        self.after = ResidualBlock(channels, dtype=dtype)

    def build(self, input_shape):
        batch = input_shape[0]
        half, quarter = (batch, None, None, self.channels), (batch, None, None, self.wide_channels)
        self.encoder.build((batch, None, None, 8))
        self.before.build(half)
        self.down.build(half)
        for layer in [*self.blocks, self.up]:
            layer.build(quarter)
        self.after.build(half)

    def call(self, slice_hu):
        fine = self.before(self.encoder(space_to_depth(_twice(slice_hu), 2)))
        coarse = self.down(fine)
        for block in self.blocks:
            coarse = block(coarse)
        return self.after(fine + depth_to_space(self.up(coarse), 2))

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        return (batch, *(side and side // self.stride for side in sides), self.channels)

    @property
    def reach(self):
        """How far a feature looks, in pixels.

        Five 3×3 convolutions at half resolution, two a block at a quarter, and up to 3 pixels to the far side
        of a quarter-resolution pixel.
        """
        return 2 * 5 + 4 * 2 * len(self.blocks) + 3

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "wide_channels": self.wide_channels,
            "blocks": len(self.blocks),
        }


@keras.saving.register_keras_serializable("kpn_tf")
class StackTrunk(keras.layers.Layer):
    """Features of a stack at half resolution: `[(B, H, W, S) in HU, (B, S) in mm]` to `(B, H/2, W/2, c)`.

    Residual blocks at a quarter of the resolution alone, and one convolution at half resolution on either side.
    The slices enter as in `EdgeTrunk`; their distances are told to the first convolution.

    Args:
        slices: Slices `S` of a stack.
        channels: Features at half resolution.
        wide_channels: Features at a quarter.
        blocks: Residual blocks at a quarter.
    """

    def __init__(self, slices, channels, wide_channels, blocks, **kwargs):
        super().__init__(**kwargs)
        self.slices = slices
        self.channels = channels
        self.wide_channels = wide_channels
        dtype = self.dtype_policy
        self.distances = SliceDistances(channels, dtype=dtype)
        self.encoder = keras.layers.Conv2D(channels, 3, padding="same", dtype=dtype)
        self.down = keras.layers.Conv2D(wide_channels, 2, strides=2, dtype=dtype)
        self.blocks = [ResidualBlock(wide_channels, dtype=dtype) for _ in range(blocks)]
        self.up = keras.layers.Conv2D(4 * channels, 1, dtype=dtype)
        self.after = keras.layers.Conv2D(channels, 3, padding="same", dtype=dtype)

    def build(self, input_shape):
        batch = input_shape[0][0]
        half, quarter = (batch, None, None, self.channels), (batch, None, None, self.wide_channels)
        self.distances.build((batch, self.slices))
        self.encoder.build((batch, None, None, 8 * self.slices))
        self.down.build(half)
        for layer in [*self.blocks, self.up]:
            layer.build(quarter)
        self.after.build(half)

    def call(self, inputs):
        stack_hu, distances_mm = inputs
        fine = self.encoder(space_to_depth(_twice(stack_hu), 2)) + self.distances(distances_mm)
        coarse = self.down(ops.relu(fine))
        for block in self.blocks:
            coarse = block(coarse)
        fine = fine + depth_to_space(self.up(coarse), 2)
        return ops.relu(fine + self.after(ops.relu(fine)))

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape[0]
        return (batch, *(side and side // 2 for side in sides), self.channels)

    @property
    def reach(self):
        """How far a feature looks, in pixels: as of `EdgeTrunk`, with two convolutions at half resolution."""
        return 2 * 2 + 4 * 2 * len(self.blocks) + 3

    def get_config(self):
        return {
            **super().get_config(),
            "slices": self.slices,
            "channels": self.channels,
            "wide_channels": self.wide_channels,
            "blocks": len(self.blocks),
        }
