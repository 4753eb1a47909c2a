"""A network in OpenVINO's intermediate representation, for Intel CPUs."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from export import graphs
from export.about import Release, any_size, describe
from export.parity import TOLERANCE_HU, compare
from export.silent_openvino import openvino
from kpn_tf.files import move

# On processors that have bfloat16 OpenVINO takes it unless told otherwise, at the cost of up to 8 HU.
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def to_openvino(network: Any, path: str | os.PathLike[str], release: Release) -> dict[str, Any]:
    """Writes a network for OpenVINO: float32, any `B`, `H` and `W` from `least_side` on.

    The input is `slice_hu`, the output `denoised_hu`, both in HU. A network for stacks has a second
    input, `distances_mm` `(B, S)`.

    The report lies in the `.xml` as the runtime information `kpn_tf` (JSON); its `"compile_with"` holds the
    properties that a program must compile the model with. The model is compared with Keras first, on the
    processor, and written atomically.

    Args:
        network: Keras model, slices `(B, H, W, 1)` in HU to the same, or a network for stacks.
        path: Where to write, ending in `.xml`; the weights go beside it, into a `.bin`. Existing files are
            replaced.
        release: `export.about.Release`.

    Returns:
        The report, a dictionary.

    Raises:
        ValueError: If the path does not end in `.xml`, if the network has no OpenVINO form, or if that form does
            not give Keras's numbers (`export.parity.ParityError`); nothing is written.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(
            f"Expected a path that ends in .xml. Received: {path}; the weights go beside it as .bin"
        )
    model = _converted(network)
    try:
        compiled = openvino.Core().compile_model(model, "CPU", PRECISION)
    except RuntimeError as error:
        raise _refusal(network, error) from error

    def run(*inputs):
        return compiled(dict(zip(("slice_hu", "distances_mm"), inputs, strict=False)))[0]

    parity = compare(run, network, TOLERANCE_HU["float32"])
    report = describe(network, release, parity, **any_size(network), compile_with=PRECISION)
    model.set_rt_info(json.dumps(report), "kpn_tf")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        openvino.save_model(model, partial, compress_to_fp16=False)
        # Whoever finds the .xml finds its own .bin: it goes first and comes last.
        path.unlink(missing_ok=True)
        move(partial.with_suffix(".bin"), path.with_suffix(".bin"))
        move(partial, path)
    return report


def _converted(network):
    denoise = graphs.any_size(network)
    signature = graphs.entrances(network)
    function = tf.function(lambda *inputs: {"denoised_hu": denoise(*inputs)}, input_signature=signature)
    try:
        model = openvino.convert_model(function.get_concrete_function())
    except Exception as error:  # its failures have no kind in common
        raise _refusal(network, error) from error
    model.set_friendly_name(network.title)
    # Names of operations come from Keras and the converter, and differ from run to run.
    for number, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() in ("Parameter", "Result"):
            continue
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
        for output in operation.outputs():
            output.get_tensor().set_names(set())
    model.output().get_tensor().set_names({"denoised_hu"})
    return model


def _refusal(network, error):
    lines = [line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()]
    # What the converter found stands in a list after some lines on where it found it.
    reason = next((line for line in lines if line.startswith("-- ")), lines[0]).removeprefix("-- ")
    return ValueError(
        f"Expected a network that has an OpenVINO form. Received: {network.title} ({reason}); nothing was written"
    )
