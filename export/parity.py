"""Whether an artefact gives Keras's numbers, in HU."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kpn_tf.phantom import torso


def comparison_slices():
    """Slices to compare on: an anatomical one with noise, and one of noise alone over all of HU.

    Returns:
        List of float32 arrays `(H, W)` in HU; sides of multiples of 4, none equal.
    """
    rng = np.random.default_rng(20)
    anatomy = torso(rows=256, columns=320, slices=1, pixel_spacing_mm=1.3).volume_hu[0]
    return [
        (anatomy + rng.normal(0, 30, anatomy.shape)).astype("float32"),
        rng.uniform(-1024, 3071, (92, 124)).astype("float32"),
    ]


def largest_difference_hu(tflite_model, network):
    """Largest difference between a .tflite and the network it came from, over `comparison_slices`.

    Args:
        tflite_model: The .tflite, bytes.
        network: Keras model.

    Returns:
        HU.
    """
    interpreter = Interpreter(model_content=tflite_model)
    entrance, exit_ = (
        interpreter.get_input_details()[0]["index"],
        interpreter.get_output_details()[0]["index"],
    )
    largest = 0.0
    for slice_hu in comparison_slices():
        batch = slice_hu[None, :, :, None]
        interpreter.resize_tensor_input(entrance, batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entrance, batch)
        interpreter.invoke()
        difference = np.abs(interpreter.get_tensor(exit_) - np.asarray(network(batch)))
        largest = max(largest, float(difference.max()))
    return largest
