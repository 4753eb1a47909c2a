"""A network as an ONNX file, which onnxruntime and most other inference engines read."""

import json
import os
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from tf2onnx.optimizer import (
    ConstFoldOptimizer,
    IdentityOptimizer,
    MergeDuplicatedNodesOptimizer,
    TransposeOptimizer,
    optimize_graph,
)

from export import graphs
from export.about import Release, any_size, describe
from export.parity import TOLERANCE_HU, ParityError, compare
from kpn_tf.files import replacing

# Of 2021: read by onnxruntime from 1.10 on, and enough for all these networks.
OPSET = 15

# Of tf2onnx's own, those that the transposes around its convolutions need; onnxruntime knows the others itself.
# `reshape_optimizer` must stay out: it writes a reshape with one axis too many and a squeeze behind it, and loses that
# squeeze where the reshape is the output, in one conversion of six of a WavResNet, by the order in which it comes
# across them. `remove_back_to_back` merges two reshapes without regard to their zeros.
OPTIMIZERS = {
    "optimize_transpose": TransposeOptimizer,
    "fold_constants": ConstFoldOptimizer,
    "merge_duplication": MergeDuplicatedNodesOptimizer,
    "remove_identity": IdentityOptimizer,
}


def to_onnx(network: Any, path: str | os.PathLike[str], release: Release) -> dict[str, Any]:
    """Writes a network as ONNX: float32, any `B`, `H` and `W` from `least_side` on.

    The input is `slice_hu`, the output `denoised_hu`, both in HU. A network for stacks has a second
    input, `distances_mm` `(B, S)`.

    The report lies in the file as the metadata property `kpn_tf` (JSON). The file is compared with Keras first,
    by onnxruntime on the CPU, and written atomically.

    Args:
        network: Keras model, slices `(B, H, W, 1)` in HU to the same, or a network for stacks.
        path: Where to write; an existing file is replaced.
        release: `export.about.Release`.

    Returns:
        The report, a dictionary.

    Raises:
        ValueError: If the network has no ONNX form, or its ONNX form does not give Keras's numbers
            (`export.parity.ParityError`); nothing is written.
    """
    path = Path(path)
    model, parity = _proved(network)
    report = describe(network, release, parity, **any_size(network))
    onnx.helper.set_model_props(model, {"kpn_tf": json.dumps(report)})
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
    return report


def _proved(network):
    """The model, and what the comparison with Keras found."""
    model = _converted(network)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except RuntimeError as error:
        raise _refusal(network, error) from error

    def run(*inputs):
        feeds = dict(zip(("slice_hu", "distances_mm"), inputs, strict=False))
        try:
            return session.run(["denoised_hu"], feeds)[0]
        except Fail as error:
            reason = str(error).splitlines()[0]
            raise ParityError(
                f"Expected an ONNX form of {network.title} that runs. Received: {reason}"
            ) from error

    return model, compare(run, network, TOLERANCE_HU["float32"])


def _converted(network):
    denoise = graphs.any_size(network)
    try:
        traced = tf.function(denoise).get_concrete_function(*graphs.entrances(network))
        inputs = [tensor.name for tensor in traced.inputs if tensor.dtype != tf.resource]
        outputs = [tensor.name for tensor in traced.outputs]
        frozen = tf2onnx.tf_loader.from_function(traced, inputs, outputs)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(frozen, name="")
            converted = tf2onnx.tfonnx.process_tf_graph(
                graph,
                continue_on_error=True,
                opset=OPSET,
                input_names=inputs,
                output_names=outputs,
                tensors_to_rename={
                    **dict(zip(inputs, ("slice_hu", "distances_mm"), strict=False)),
                    outputs[0]: "denoised_hu",
                },
            )
            model = optimize_graph(converted, catch_errors=False, optimizers=OPTIMIZERS).make_model(
                "", graph_name=network.title
            )
        # An operation without an ONNX form stays in the graph under its TensorFlow name: the checker knows none such.
        onnx.checker.check_model(model)
    except Exception as error:  # its failures have no kind in common
        raise _refusal(network, error) from error
    for tensor in [*model.graph.input, *model.graph.output]:
        *sides, channels = tensor.type.tensor_type.shape.dim
        for side, name in zip(sides, ("batch", "rows", "columns"), strict=False):
            side.dim_param = name
        if tensor.name == "denoised_hu":
            channels.dim_value = 1  # tf2onnx loses it over the sum of the limits
    _tidy(model.graph)
    return model


def _tidy(graph):
    """Orders and numbers what a graph holds by how it hangs together: tf2onnx's names and order differ every time."""
    names = {name: name for name in ("", "slice_hu", "distances_mm", "denoised_hu")}

    def numbered(old):
        return [names.setdefault(name, str(len(names))) for name in old]

    nodes = _in_order(graph)
    for node in nodes:
        node.input[:], node.output[:] = numbered(node.input), numbered(node.output)
        node.name = f"{node.op_type}_{node.output[0]}"
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = [constants[name] for name in names if name in constants]
    for tensor in used:
        tensor.name = names[tensor.name]
    for field, members in (("node", nodes), ("initializer", used), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(members)


def _in_order(graph):
    """The nodes that the output needs, each after those it needs itself, wherever they stood before."""
    maker = {name: node for node in graph.node for name in node.output}
    ordered = {}
    open_ends = [maker["denoised_hu"]]
    while open_ends:
        node = open_ends[-1]
        needed = [maker[name] for name in node.input if name in maker]
        missing = next((other for other in needed if other.output[0] not in ordered), None)
        if missing is None:
            ordered[node.output[0]] = open_ends.pop()
        else:
            open_ends.append(missing)
    return list(ordered.values())


def _refusal(network, error):
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(
        f"Expected a network that has an ONNX form. Received: {network.title} ({reason}); nothing was written"
    )
