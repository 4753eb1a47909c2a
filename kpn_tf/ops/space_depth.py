"""Moving pixels between the plane and the channels: the phases of a slice.

Channel order is row phase, column phase, channel: `(p * stride + q) * C + c` holds the pixel at
row `stride * i + p` and column `stride * j + q`.
"""

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    # Single operations with a TFLite builtin of the same name; a reshape would need tensors of
    # rank 6, which GPU runtimes do not have.
    import tensorflow as tf

    def space_to_depth(image, stride):
        """Phases of an image as channels: `(B, H, W, C)` to `(B, H/s, W/s, s*s*C)`.

        Args:
            image: Tensor `(B, H, W, C)`; `H` and `W` are multiples of `stride`.
            stride: Side of the square block that becomes channels.

        Returns:
            Tensor `(B, H/s, W/s, s*s*C)`, row phase slowest, channel fastest.
        """
        return tf.nn.space_to_depth(image, stride)

    def depth_to_space(phases, stride):
        """The inverse of `space_to_depth`: `(B, h, w, s*s*C)` to `(B, s*h, s*w, C)`.

        Args:
            phases: Tensor `(B, h, w, s*s*C)`.
            stride: Side of the square block that channels become.

        Returns:
            Tensor `(B, s*h, s*w, C)`.
        """
        return tf.nn.depth_to_space(phases, stride)

else:

    def space_to_depth(image, stride):
        batch, rows, columns, channels = ops.shape(image)
        blocks = ops.reshape(image, (batch, rows // stride, stride, columns // stride, stride, channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))  # (B, h, w, s, s, C)
        return ops.reshape(blocks, (batch, rows // stride, columns // stride, stride * stride * channels))

    def depth_to_space(phases, stride):
        batch, rows, columns, depth = ops.shape(phases)
        channels = depth // (stride * stride)
        blocks = ops.reshape(phases, (batch, rows, columns, stride, stride, channels))
        blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))  # (B, h, s, w, s, C)
        return ops.reshape(blocks, (batch, rows * stride, columns * stride, channels))
