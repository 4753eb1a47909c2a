"""What a network costs, read from its graph."""

import numpy as np


def gmac(network, rows=512, columns=512):
    """Multiply-accumulates of all convolutions for one slice, in units of 1e9: where these networks do their work.

    A convolution multiplies its whole kernel at every pixel of its output, a transposed one at every pixel of
    its input. Where a network puts the phases of one slice into a batch, all of them count.

    Args:
        network: Keras model, `(B, H, W, 1)` to the same, or one that takes stacks.
        rows: Rows of the slice.
        columns: Columns of the slice.

    Returns:
        A float.
    """
    import tensorflow as tf

    slices = getattr(network, "slices", 1)
    spec = tf.TensorSpec((1, rows, columns, slices), tf.float32)
    if slices > 1:
        spec = [spec, tf.TensorSpec((1, slices), tf.float32)]
    total = 0
    for operation in tf.function(network.call).get_concrete_function(spec).graph.get_operations():
        if operation.type == "Conv2D":
            total += np.prod(operation.inputs[1].shape[:3]) * np.prod(operation.outputs[0].shape)
        elif operation.type == "DepthwiseConv2dNative":
            total += np.prod(operation.inputs[1].shape[:2]) * np.prod(operation.outputs[0].shape)
        elif operation.type == "Conv2DBackpropInput":
            total += np.prod(operation.inputs[1].shape[:3]) * np.prod(operation.inputs[2].shape)
    return float(total) / 1e9
