"""A network as a .tflite that carries its own metadata and has been proved against Keras."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export.parity import largest_difference_hu
from kpn_tf.networks.struct_kpn import MULTIPLE

# Greatest difference in HU that a float32 artefact may have from Keras on any pixel.
TOLERANCE_HU = 0.05


def to_tflite(network, path, *, version, licence, training_data):
    """Writes a network for LiteRT: float32, any size, builtin operations only.

    The file takes `(1, H, W, 1)` in HU, with sides that divide by the `multiple` in its metadata, and returns
    the same shape in HU. It is compared with Keras first, and written whole or not at all.

    Args:
        network: `StructKPN`.
        path: Where to write; an existing file is replaced.
        version: Version of the weights.
        licence: Licence of the weights.
        training_data: One line on what they were trained on.

    Returns:
        The metadata, a dictionary; `parity_hu` is the largest difference from Keras found.

    Raises:
        ValueError: If the artefact differs from Keras by more than `TOLERANCE_HU`; nothing is written.
        Exception: From the converter, if an operation has no builtin form.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        signature = [tf.TensorSpec((1, None, None, 1), tf.float32, name="slice_hu")]
        archive.add_endpoint("serving_default", network.denoise_whole, input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        model = converter.convert()
    difference = largest_difference_hu(model, network)
    if not difference < TOLERANCE_HU:
        raise ValueError(
            f"Expected the artefact within {TOLERANCE_HU} HU of Keras. Received: {difference:.3g} HU; not written"
        )
    metadata = {
        "model": f"StructKPN-{network.preset}",
        "version": version,
        "licence": licence,
        "training_data": training_data,
        "input": "HU, float32, (1, H, W, 1)",
        "output": "HU, float32, (1, H, W, 1)",
        "multiple": MULTIPLE[network.preset],
        "halo": network.reach,
        "parameters": network.count_params(),
        "gmac_512": round(gmac(network), 2),
        "parity_hu": float(f"{difference:.2g}"),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(model)
    # Readers of the model ignore what follows it; a zip archive is read from its end.
    with zipfile.ZipFile(partial, "a") as metadata_file:
        # A fixed date: the same network gives the same file.
        entry = zipfile.ZipInfo("metadata.json", date_time=(1980, 1, 1, 0, 0, 0))
        metadata_file.writestr(entry, json.dumps(metadata, indent=1))
    partial.replace(path)
    return metadata


def gmac(network, rows=512, columns=512):
    """Multiply-accumulates of all convolutions for one slice, in units of 1e9: where these networks do their work.

    Args:
        network: Keras model, `(B, H, W, 1)` to the same.
        rows: Rows of the slice.
        columns: Columns of the slice.

    Returns:
        A float.
    """
    graph = (
        tf.function(network.call)
        .get_concrete_function(tf.TensorSpec((1, rows, columns, 1), tf.float32))
        .graph
    )
    total = 0
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            kernel, output = operation.inputs[1].shape, operation.outputs[0].shape
            total += np.prod(kernel[:3]) * np.prod(output[1:])
    return float(total) / 1e9
