"""A network as a .tflite that carries its own report and has been proved against Keras."""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from export.about import Release, describe
from export.graphs import entrances, grid, shares, slices_of, whole, whole_side
from export.parity import TOLERANCE_HU, ParityError, compare, comparison_slices, inputs_like
from kpn_tf.denoiser.artefact import open_artefact
from kpn_tf.denoiser.kernels import SIGNATURE
from kpn_tf.denoiser.tiling import least_side
from kpn_tf.files import replacing
from kpn_tf.hounsfield import WINDOWS

# Precision -> what the converter may use. Operations without an integer form stay in float32 in "int16x8": moving
# pixels between plane and channels is one.
_BUILTINS = tf.lite.OpsSet.TFLITE_BUILTINS
_INTEGER = {
    "int16x8": [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        _BUILTINS,
    ],
    "int8": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
}
PRECISIONS = ("float16", "float32", *_INTEGER)

# What a file of any size is allocated for before anybody resizes it.
DEFAULT_SIDE = 512

# Greatest root mean square difference of an integer artefact from Keras in soft tissue, in HU: below what noise
# is left of in a denoised slice.
INTEGER_RMS_HU = 2.0


# Greatest difference that the share of a filter may have from Keras at any pixel, by the precision of the weights.
TOLERANCE_SHARES = {"float32": 1e-3, "float16": 0.05}


def to_tflite(
    network: Any,
    path: str | os.PathLike[str],
    release: Release,
    *,
    precision: str = "float16",
    side: int | None = None,
    calibration: Sequence[np.ndarray] | None = None,
    alone: str | os.PathLike[str] | None = None,
    alone_beyond_mm: float | None = None,
) -> dict[str, Any]:
    """Writes a network for LiteRT in builtin operations only.

    The file takes `slice_hu`, `(1, H, W, 1)` float32 in HU, with sides that divide by the `multiple` in its report,
    and returns `denoised_hu`, the same; of a network for stacks it takes `(1, H, W, S)` and `distances_mm`, `(1, S)`
    from the middle slice. Before it is resized it takes 512×512 (256×256 where kernels are free). It is compared with
    Keras first, and written atomically. Where kernels are mixtures of learnt filters, a second signature, `shares`,
    tells them: `export.graphs.shares` says what it returns, `kpn_tf.Denoiser.kernels_at` reads it.

    Args:
        network: `StructKPN`, `StackKPN` or a network of `baselines`.
        path: Where to write; an existing file is replaced.
        release: `export.about.Release`.
        precision: Of the weights: `"float16"` or `"float32"`, both computed in float32; `"int16x8"` or `"int8"`,
            integer arithmetic on activations of 16 or 8 bits.
        side: Side of the square slices it takes, what a GPU needs; `None` for any size.
        calibration: For integers, slices `(H, W)` in HU such as the network will meet, at least two and of one
            size: every other one sets the ranges, the others test.
        alone: Of a network for stacks, the .tflite of single slices that denoises slices without neighbours. It stays
            beside the file, which names it and its hash: `kpn_tf.Denoiser` takes both.
        alone_beyond_mm: Distance of the nearest neighbour from which on a slice counts as one without; any distance
            is near enough if `None`.

    Returns:
        The report, a dictionary; it also lies in the file, as the zip member `metadata.json`.

    Raises:
        ParityError: If the artefact differs from Keras by more than its precision allows; nothing is written.
        ValueError: If the arguments do not fit each other, or an operation has no builtin form.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise ValueError(f"Expected precision to be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    multiple = grid(network)
    least = least_side(network.reach, multiple)
    if side is not None and (side % multiple or side < least):
        raise ValueError(
            f"Expected a side of {least} or more that divides by {multiple}, so that tiles can overlap by what an "
            f"output pixel sees. Received: {side}"
        )
    if precision in _INTEGER and slices_of(network) > 1:
        raise ValueError(f"Expected float16 or float32 for a network of stacks. Received: {precision}")
    if alone is not None and (
        slices_of(network) == 1 or Path(alone).absolute().parent != path.absolute().parent
    ):
        raise ValueError(
            f"Expected a network of stacks, and {Path(alone).name} in the folder of its file. Received: a network of "
            f"{slices_of(network)} slice(s), {path} and {alone}"
        )
    if alone_beyond_mm is not None and (alone is None or not 0 < alone_beyond_mm < np.inf):
        raise ValueError(
            f"Expected a distance above 0 mm, with a network for slices without neighbours. Received: {alone_beyond_mm}"
        )
    if (precision in _INTEGER) != (calibration is not None):
        raise ValueError(f"Expected calibration slices with integers and only there. Received: {precision}")
    if calibration is None:
        model = _convert(network, precision, side, None)
        parity = compare(open_tflite(model), network, TOLERANCE_HU[precision], side=side, multiple=multiple)
        _compare_shares(model, network, precision, side)
    else:
        slices = [_fitted(slice_hu, side, multiple) for slice_hu in calibration]
        if len(slices) < 2:
            raise ValueError(f"Expected at least two calibration slices. Received: {len(slices)}")
        ranges = slices[::2]
        if precision == "int16x8":
            # What lies beyond the ranges saturates, hundreds of HU off; 16 bits have room for twice the contrast.
            ranges = ranges + [2 * batch_hu for batch_hu in ranges]
        model = _convert(network, precision, side, ranges)
        parity = _judge(open_tflite(model), network, slices[1::2])
    more: dict[str, Any] = {"precision": precision, "side": side}
    if side is None:
        more["whole_side"] = whole_side(network)
    if alone is not None:
        single = open_artefact(alone)
        more |= {
            "alone": single.path.name,
            "alone_sha256": single.file_sha256,
            "alone_beyond_mm": alone_beyond_mm,
        }
    report = describe(network, release, parity, **more)
    with replacing(path) as part:
        part.write_bytes(model)
        # Readers of the model ignore what follows it; a zip archive is read from its end.
        with zipfile.ZipFile(part, "a") as metadata_file:
            # A fixed date: the same network gives the same file.
            entry = zipfile.ZipInfo("metadata.json", date_time=(1980, 1, 1, 0, 0, 0))
            metadata_file.writestr(entry, json.dumps(report, indent=1))
    return report


def _convert(network, precision, side, calibration):
    """The .tflite as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        signature = entrances(network, batch=1, side=side)
        denoise = whole(network)
        functions = {"serving_default": lambda *inputs: {"denoised_hu": denoise(*inputs)}}
        # Integers would need calibration of their own for it.
        if precision not in _INTEGER and (told := shares(network)):
            functions[SIGNATURE] = told
        for name, function in functions.items():
            archive.add_endpoint(name, function, input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.target_spec.supported_ops = _INTEGER.get(precision, [_BUILTINS])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.representative_dataset = lambda: ([batch_hu] for batch_hu in calibration)
        try:
            model = converter.convert()
        except Exception as error:
            # The converter's own class is private to TensorFlow; its text ends with the operations.
            missing = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
            if not missing:
                raise
            raise ValueError(
                f"Expected operations with a builtin form in TFLite. Received: {', '.join(missing)}; not written"
            ) from error
    return (
        model if side else _with_default_side(model, min(DEFAULT_SIDE, whole_side(network) or DEFAULT_SIDE))
    )


def _with_default_side(model, side):
    """The model with square slices as its size before any resizing.

    The converter writes 1 for a length that is free, and no network takes one pixel: without this `allocate_tensors`
    fails on a file that was just loaded.
    """
    model = bytearray(model)
    root = schema.Model.GetRootAs(model)
    for number in range(root.SubgraphsLength()):
        graph = root.Subgraphs(number)
        for index in graph.InputsAsNumpy():
            shape = graph.Tensors(index).ShapeAsNumpy()  # a view into `model`
            if len(shape) == 4:
                shape[1:3] = side
    return bytes(model)


def _compare_shares(model, network, precision, side):
    """Compares the signature `shares`, where there is one, with Keras on the real slice.

    Raises:
        ParityError: If a share is further off than its precision allows.
    """
    told = shares(network)
    if told is None:
        return
    multiple = grid(network)
    slice_hu = comparison_slices(side)["real"]
    rows, columns = (length // multiple * multiple for length in slice_hu.shape)
    inputs = inputs_like(slice_hu[:rows, :columns], slices_of(network))
    run = Interpreter(model_content=model).get_signature_runner(SIGNATURE)
    received = run(**dict(zip(("slice_hu", "distances_mm"), inputs, strict=False)))["shares"]
    largest = float(np.abs(received - np.asarray(told(*inputs)["shares"])).max())
    if not largest < TOLERANCE_SHARES[precision]:
        raise ParityError(
            f"Expected shares within {TOLERANCE_SHARES[precision]} of Keras. Received: {largest:.3g} off on the real "
            "slice; not written"
        )


def open_tflite(model, threads=None):
    """Opens a .tflite on the CPU.

    Args:
        model: The file, bytes.
        threads: Threads to compute with; LiteRT chooses if `None`.

    Returns:
        Function from a float32 array `(1, H, W, 1)` in HU, or a stack and its distances, to `(1, H, W, 1)` in HU.
    """
    interpreter = Interpreter(model_content=model, num_threads=threads)
    # Of a stack's network the distances are the input without rows and columns.
    inputs = [
        one["index"] for one in sorted(interpreter.get_input_details(), key=lambda one: -len(one["shape"]))
    ]
    exit_, shape = interpreter.get_output_details()[0]["index"], None

    def run(batch_hu, *distances_mm):
        nonlocal shape
        if batch_hu.shape != shape:
            interpreter.resize_tensor_input(inputs[0], batch_hu.shape)
            shape = batch_hu.shape
        interpreter.allocate_tensors()
        for index, values in zip(inputs, (batch_hu, *distances_mm), strict=True):
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return interpreter.get_tensor(exit_)

    return run


def _fitted(slice_hu, side, multiple):
    """The middle of a calibration slice, as much as the artefact takes, `(1, H, W, 1)` float32."""
    if side is not None and min(slice_hu.shape) < side:
        raise ValueError(
            f"Expected calibration slices of at least {side}x{side} pixels. Received: {slice_hu.shape}"
        )
    kept = []
    for length in slice_hu.shape:
        size = side or length // multiple * multiple
        start = (length - size) // 2
        kept.append(slice(start, start + size))
    return np.asarray(slice_hu, "float32")[None, kept[0], kept[1], None]


def _judge(run, network, slices):
    """What `compare` reports, over the soft tissue of slices that did not set the ranges."""
    soft = WINDOWS["soft"]
    report = []
    for number, batch_hu in enumerate(slices):
        expected_hu, received_hu = np.asarray(network(batch_hu)), run(batch_hu)
        difference_hu = received_hu - expected_hu
        inside = (expected_hu > soft.low_hu) & (expected_hu < soft.high_hu)
        rms_hu = float(np.sqrt((difference_hu[inside] ** 2).mean()))
        if not rms_hu < INTEGER_RMS_HU:
            raise ParityError(
                f"Expected integers within {INTEGER_RMS_HU} HU RMS of Keras in soft tissue. Received: {rms_hu:.3g} HU "
                f"on calibration slice {2 * number + 2}; not written, use float16"
            )
        report.append(
            {
                "slice": f"calibration {2 * number + 2}",
                "rows": batch_hu.shape[1],
                "columns": batch_hu.shape[2],
                "largest_hu": float(f"{np.abs(difference_hu).max():.2g}"),
                "rms_soft_tissue_hu": float(f"{rms_hu:.2g}"),
                "tolerance_rms_hu": INTEGER_RMS_HU,
            }
        )
    return report
