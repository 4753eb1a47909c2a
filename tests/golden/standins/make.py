"""Makes the stand-in networks of this folder: python tests/golden/standins/make.py (training extra)."""

import json
import zipfile
from pathlib import Path

import tensorflow as tf

FOLDER = Path(__file__).parent


def box(slice_hu):
    """Mean over 7x7 with reflected borders: an output pixel looks 3 pixels far."""
    padded = tf.pad(slice_hu, [[0, 0], [3, 3], [3, 3], [0, 0]], mode="REFLECT")
    return tf.nn.conv2d(padded, tf.ones((7, 7, 1, 1)) / 49.0, 1, "VALID")


def blocks(slice_hu):
    """Every 2x2 block becomes its mean: what a pixel becomes depends on its parity."""
    means = tf.nn.avg_pool2d(slice_hu, 2, 2, "SAME")
    rows, columns = tf.shape(slice_hu)[1], tf.shape(slice_hu)[2]
    size = 2 * tf.shape(means)[1:3]
    return tf.image.resize(means, size, method="nearest")[:, :rows, :columns, :]


def broken(slice_hu):
    """Returns NaN everywhere, as an export that lost its weights does."""
    return slice_hu * float("nan")


def weighted(slice_hu, distances_mm):
    """The middle of three slices, and to it of each other slice a tenth of its difference for every mm of distance."""
    weights = distances_mm[:, None, None, :] / 10
    middle = slice_hu[..., 1:2]
    return middle + tf.reduce_sum(weights * (slice_hu - middle), axis=-1, keepdims=True)


def smoothed(slice_hu, distances_mm):
    """The 7x7 mean of `weighted`: a stand-in that also takes noise from a single slice."""
    return box(weighted(slice_hu, distances_mm))


def write(function, *, halo, multiple, side=None, slices=1):
    signature = [tf.TensorSpec((1, side, side, slices), tf.float32, name="slice_hu")]
    if slices > 1:
        signature.append(tf.TensorSpec((1, slices), tf.float32, name="distances_mm"))
    traced = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    name = function.__name__
    path = FOLDER / (f"{name}_{side}.tflite" if side else f"{name}.tflite")
    path.write_bytes(converter.convert())
    metadata = {
        "model": f"standin-{name}",
        "version": "1",
        "licence": "Apache-2.0",
        "units": "HU",
        "halo": halo,
        "multiple": multiple,
        **({"side": side} if side else {}),
        **({"slices": slices} if slices > 1 else {}),
        "parameters": 0,
        "gmac_512": 0.0128,
        "training_data": "none",
    }
    # A fixed date, so that the file is the same whenever it is made.
    member = zipfile.ZipInfo("metadata.json", (2020, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, json.dumps(metadata))


if __name__ == "__main__":
    write(box, halo=3, multiple=1)
    write(box, halo=3, multiple=1, side=64)
    write(blocks, halo=2, multiple=2)
    write(broken, halo=0, multiple=1)
    write(weighted, halo=0, multiple=1, slices=3)
    write(smoothed, halo=3, multiple=1, slices=3)
