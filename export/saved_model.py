"""A network as a SavedModel for TensorFlow Serving, proved against Keras through every signature."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export import graphs
from export.about import Release, describe
from export.parity import TOLERANCE_HU, compare
from export.serving import write_configuration, write_warm_up
from export.signatures import signatures
from kpn_tf.files import move, write_text

# A whole number lies up to half a HU from the float it was rounded from.
ROUNDED_TOLERANCE_HU = 0.5 + TOLERANCE_HU["float32"]

# What the report says of inputs and outputs.
SLICES = "HU, (B, H, W, {}): float32, whole numbers or bytes of int16, by signature"


def to_saved_model(network: Any, base: str | os.PathLike[str], release: Release) -> dict[str, Any]:
    """Writes a network as `<base>/<version>/`, ready for TensorFlow Serving.

    Signatures: `serving_default` (`slice_hu` to `denoised_hu`, float32), `int16` (the same as whole HU) and `bytes`
    (`slice_bytes`, `rows` and `columns` to `denoised_bytes`: raw little-endian int16 HU). Slices of any size,
    `(B, H, W, 1)` in the first two; of a network for stacks a stack for every item, `(B, H, W, S)`, and in all three
    `distances_mm` `(B, S)`. The trainable variables stay trainable (`trainable_variables` of what
    `tf.saved_model.load` returns).

    The folder is compared with Keras through all three before it appears, atomically; beside it
    `models.config` and `batching.config` are written unless they exist.

    Args:
        network: Keras model, `(B, H, W, 1)` in HU to the same, or a network for stacks.
        base: Folder of the model's versions; made if absent.
        release: `export.about.Release`; its version a whole number.

    Returns:
        The report, a dictionary; also in the folder, as `assets.extra/kpn_tf.json`.

    Raises:
        ValueError: If the version is not a whole number, or exists, or the folder has versions of another model.
        ParityError: If a signature differs from Keras by more than its tolerance; nothing is written.
    """
    base = Path(base)
    folder = base / _version_folder(release.version)
    if folder.exists():
        raise ValueError(
            f"Expected a version that is not there yet. Received: {folder}, which exists and is not overwritten; "
            "export with a higher version or remove it"
        )
    _same_model(base, network.title)
    base.mkdir(parents=True, exist_ok=True)
    # Hidden and no number: a server that watches the folder passes it by.
    partial = base / f".{folder.name}.{os.getpid()}"
    try:
        _write(network, partial)
        parity = _parity(network, partial)
        slices = graphs.slices_of(network)
        texts = {"input": SLICES.format(slices), "output": SLICES.format(1)}
        if slices > 1:
            texts["input"] += f"; and distances from the middle slice, mm, float32, (B, {slices})"
        report = describe(network, release, parity, **texts, multiple=1)
        extra = partial / "assets.extra"
        extra.mkdir()
        write_text(extra / "kpn_tf.json", json.dumps(report, indent=1))
        write_warm_up(extra / "tf_serving_warmup_requests", network.title, slices)
        write_configuration(base, network.title)
        move(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _same_model(base, title):
    """A server takes the highest version of a folder, whatever network it holds."""
    for report in base.glob("*/assets.extra/kpn_tf.json"):
        other = json.loads(report.read_text(encoding="utf-8"))["model"]
        if other != title:
            raise ValueError(
                f"Expected a folder with versions of {title}. Received: {base}, which holds {other}; choose another"
            )


def _version_folder(version):
    if not (
        version.isascii() and version.isdigit() and str(int(version)) == version and int(version) < 2**63
    ):
        raise ValueError(
            f"Expected a whole number as the version of a SavedModel. Received: {version!r}; "
            "TensorFlow Serving serves the folder with the highest number, so name versions 1, 2, 3"
        )
    return version


def _write(network, folder):
    archive = keras.export.ExportArchive()
    # The endpoints bring the variables along; `archive.track` would save each a second time, in Keras's wrapper.
    trainable = [variable.value for variable in network.trainable_variables]
    archive.add_variable_collection("trainable_variables", trainable)
    for name, (function, inputs) in signatures(graphs.any_size(network), graphs.slices_of(network)).items():
        archive.add_endpoint(name, function, input_signature=inputs)
    archive.write_out(str(folder), verbose=False)


def _parity(network, folder):
    """The written folder against Keras, through each signature."""
    served = tf.saved_model.load(str(folder)).signatures

    def asked(name, distances_mm, **inputs):
        if distances_mm:
            inputs["distances_mm"] = distances_mm[0]
        ((_, answer),) = served[name](**{key: tf.constant(value) for key, value in inputs.items()}).items()
        return answer.numpy()

    def floats(slice_hu, *distances_mm):
        return asked("serving_default", distances_mm, slice_hu=slice_hu)

    def whole_hu(slice_hu, *distances_mm):
        return asked("int16", distances_mm, slice_hu=np.rint(slice_hu).astype("int32")).astype("float32")

    def raw_bytes(slice_hu, *distances_mm):
        _, rows, columns, _ = slice_hu.shape
        raw = np.rint(slice_hu).astype("<i2").tobytes()
        (denoised,) = asked("bytes", distances_mm, slice_bytes=[raw], rows=[rows], columns=[columns])
        return np.frombuffer(denoised, "<i2").reshape(1, rows, columns, 1).astype("float32")

    def network_on_whole_hu(inputs):
        stack = isinstance(inputs, list)
        return network([np.rint(inputs[0]), inputs[1]] if stack else np.rint(inputs))

    exact, rounded = TOLERANCE_HU["float32"], ROUNDED_TOLERANCE_HU
    return [
        {"signature": name, **row}
        for name, run, truth, tolerance_hu in (
            ("serving_default", floats, network, exact),
            ("int16", whole_hu, network_on_whole_hu, rounded),
            ("bytes", raw_bytes, network_on_whole_hu, rounded),
        )
        for row in compare(run, truth, tolerance_hu, slices=graphs.slices_of(network))
    ]
