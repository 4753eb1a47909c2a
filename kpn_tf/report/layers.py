"""The layers that decide a network's kernels, read out of its .tflite: what the page computes again.

LiteRT's graph is the one description of the architecture; nothing here knows what a network is called.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kpn_tf.denoiser import NoKernelsError
from kpn_tf.denoiser.kernels import SIGNATURE
from kpn_tf.kernels import kernels_of_filters

_KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}

# Operations that the page knows by LiteRT's names, in lower case: of numbers one by one, of features, of features as
# well as of what comes before them. HU become features by space_to_depth.
_ONE_BY_ONE = ("minimum", "maximum", "add", "sub", "mul", "greater", "neg", "exp", "relu")
_ON_PLANES = ("conv_2d", "depth_to_space")
_ON_BOTH = ("add", "relu")

# What changes nothing for the page: types, and axes of length one.
_PASSED = ("cast", "reshape")

_RELU = schema.ActivationFunctionType.RELU


@dataclass(frozen=True)
class Layers:
    """What the shares of a network's filters are computed by.

    Args:
        layers: Dicts in the order of computation, the last one the scores. `kind` is an operation's name, or
            `slice_hu` or `distances_mm`; `from` numbers of other layers (of a convolution secondly what is added, which
            may come later); `value` a constant second operand; `relu` whether negative results become zero; `block`
            the side of a block; of convolutions `weights` a number in `weights`, `shape` (rows, columns, in, out) and
            `stride`.
        weights: `(filters, bias)` of each convolution, float32, `(rows, columns, in, out)` and `(out,)`.
        scores: What happens to the scores of a pixel before their softmax: dicts of `kind`, `"centre"` for taking their
            mean away, `"minimum"` or `"maximum"` with a `value`.
        banks: For each slice of a stack its filters as kernels of every phase, `(4, k, k, C)`.
    """

    layers: list[dict[str, Any]]
    weights: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    scores: list[dict[str, Any]]
    banks: list[np.ndarray] = field(repr=False)


def read_layers(path):
    """Reads the graph of the signature `shares` up to the softmax.

    Args:
        path: A .tflite that `export` wrote.

    Returns:
        `Layers`.

    Raises:
        NoKernelsError: If the file has no such signature, or a layer that the page does not know.
    """
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        if signature.SignatureKey().decode() == SIGNATURE:
            return _Graph(path.name, model, signature).read()
    raise NoKernelsError(
        f"Expected a network whose file tells the shares of its filters. Received: {path.name}"
    )


class _Graph:
    def __init__(self, name, model, signature):
        self._name, self._model = name, model
        self._graph = model.Subgraphs(signature.SubgraphIndex())
        self._layers, self._weights = [], []
        # Layers of features, which the page keeps in planes.
        self._planes = set()
        # Tensor -> what it is the same as; tensor -> layer that makes it; tensor -> how often it is used.
        self._same, self._made, self._used = {}, {}, {}
        for entry in map(signature.Inputs, range(signature.InputsLength())):
            self._add(entry.TensorIndex(), kind=entry.Name().decode())
        outputs = map(signature.Outputs, range(signature.OutputsLength()))
        self._outputs = {entry.Name().decode(): entry.TensorIndex() for entry in outputs}

    def read(self):
        operators = [self._graph.Operators(i) for i in range(self._graph.OperatorsLength())]
        kinds = [self._kind(operator) for operator in operators]
        for operator in operators:
            for tensor in operator.InputsAsNumpy():
                self._used[tensor] = self._used.get(tensor, 0) + 1
        for kind, operator in zip(kinds, operators, strict=True):
            inputs, result = operator.InputsAsNumpy(), operator.Outputs(0)
            if kind == "split":  # Into the phases of the scores, each of which then has its softmax.
                place = kinds.index(kind) + 1
                scores = self._scores(operators[place:], kinds[place:], operator, self._layer(inputs[1]))
                return Layers(self._layers, self._weights, scores, self._banks())
            if kind == "dequantize" or kind in _PASSED:
                self._same[result] = inputs[0]
            elif kind == "conv_2d":
                self._add(result, **self._convolution(operator, inputs))
            elif kind == "fully_connected":
                self._add(result, **self._dense(operator, inputs))
            elif kind in ("space_to_depth", "depth_to_space"):
                name = {
                    "space_to_depth": schema.SpaceToDepthOptions,
                    "depth_to_space": schema.DepthToSpaceOptions,
                }
                block = self._options(operator, name[kind]).BlockSize()
                self._add(result, kind=kind, block=block, **{"from": [self._layer(inputs[0])]})
            elif kind == "concatenation":
                self._add(result, kind=kind, **{"from": [self._layer(one) for one in inputs]})
            elif kind == "add" and self._add_to_convolution(operator, inputs, result):
                continue
            elif kind in _ONE_BY_ONE:
                self._add(result, **self._one_by_one(kind, operator, inputs))
            else:
                raise self._unknown(kind)
        raise self._unknown("no softmax over the filters")

    def _banks(self):
        banks = []
        while (filters := self._outputs.get(f"filters_{len(banks)}")) is not None:
            wide = self._outputs.get(f"wide_{len(banks)}")
            both = [self._constant(tensor) for tensor in (filters, wide) if tensor is not None]
            banks.append(kernels_of_filters(*both).astype(np.float32))
        return banks

    def _kind(self, operator):
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        return _KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())].lower()

    def _scores(self, operators, kinds, split, scores):
        """What happens to the scores of the first phase; the others must be treated alike."""
        last = self._layers[-1]
        if scores != len(self._layers) - 1 or last["kind"] != "conv_2d" or len(last["from"]) > 1:
            raise self._unknown(f"{self._layers[scores]['kind']} before the softmax")
        steps, current, mean = [], split.Outputs(0), None
        for count, (kind, operator) in enumerate(zip(kinds, operators, strict=True), start=1):
            inputs, result = list(operator.InputsAsNumpy()), operator.Outputs(0)
            value = self._constant(inputs[-1]) if kind in ("minimum", "maximum") else None
            if inputs[0] != current:
                break
            if kind == "softmax":
                alike = [*kinds[:count] * split.OutputsLength(), "concatenation"]
                if sorted(kinds) == sorted(alike):
                    return steps
                break
            if kind == "mean":
                mean = result
                continue
            if kind == "sub" and inputs[1] == mean:
                steps.append({"kind": "centre"})
            elif value is not None and value.size == 1:
                steps.append({"kind": kind, "value": float(value.ravel()[0])})
            else:
                break
            current = result
        raise self._unknown("no softmax over the filters at the end")

    def _add(self, tensor, **layer):
        kind, source = layer["kind"], layer.get("from", [None])[0]
        if (source in self._planes) != (kind in _ON_PLANES) and not (
            kind in _ON_BOTH and "value" not in layer
        ):
            raise self._unknown(f"{kind} of {'features' if source in self._planes else 'HU'}")
        if source in self._planes or kind == "space_to_depth":
            self._planes.add(len(self._layers))
        self._made[tensor] = len(self._layers)
        self._layers.append(layer)

    def _layer(self, tensor):
        while tensor in self._same:
            tensor = self._same[tensor]
        if tensor not in self._made:
            raise self._unknown("a constant where a layer was expected")
        return self._made[tensor]

    def _constant(self, tensor):
        """Values of a constant, `None` of what is computed."""
        while tensor in self._same:
            tensor = self._same[tensor]
        of = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(of.Buffer())
        types = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
        if buffer.DataLength() == 0 or of.Type() not in types:
            return None
        shape = of.ShapeAsNumpy() if of.ShapeLength() else ()
        return buffer.DataAsNumpy().view(types[of.Type()]).reshape(shape).astype(np.float32)

    @staticmethod
    def _options(operator, kind):
        options = kind()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    def _convolution(self, operator, inputs):
        options = self._options(operator, schema.Conv2DOptions)
        filters = np.moveaxis(self._constant(inputs[1]), 0, -1)  # (rows, columns, in, out)
        sides, stride = set(filters.shape[:2]), options.StrideH()
        (side,) = sides if len(sides) == 1 else (0,)
        whole = stride == 1 and side % 2 == 1 and (side == 1 or options.Padding() == schema.Padding.SAME)
        if stride != options.StrideW() or options.DilationHFactor() > 1 or not (whole or stride == side):
            raise self._unknown(f"conv_2d of {filters.shape} with stride {stride}")
        bias = self._constant(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
        relu = self._relu("conv_2d", options)
        weights = self._keep(filters, bias)
        return {
            "kind": "conv_2d",
            "from": [self._layer(inputs[0])],
            "stride": stride,
            "relu": relu,
            **weights,
        }

    def _dense(self, operator, inputs):
        options = self._options(operator, schema.FullyConnectedOptions)
        filters = self._constant(inputs[1]).T[None, None]  # (1, 1, in, out)
        bias = self._constant(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
        relu = self._relu("fully_connected", options)
        return {
            "kind": "fully_connected",
            "from": [self._layer(inputs[0])],
            "relu": relu,
            **self._keep(filters, bias),
        }

    def _keep(self, filters, bias):
        bias = np.zeros(filters.shape[-1], np.float32) if bias is None else bias
        self._weights.append((filters, bias))
        return {"weights": len(self._weights) - 1, "shape": list(filters.shape)}

    def _one_by_one(self, kind, operator, inputs):
        of_kind = {"add": schema.AddOptions, "sub": schema.SubOptions, "mul": schema.MulOptions}
        relu = kind in of_kind and self._relu(kind, self._options(operator, of_kind[kind]))
        layer = {"kind": kind, "relu": relu}
        constant = self._constant(inputs[-1]) if len(inputs) > 1 else None
        if constant is None:
            return {**layer, "from": [self._layer(one) for one in inputs]}
        if constant.size != 1:
            raise self._unknown(f"{kind} with {constant.size} constants")
        return {**layer, "from": [self._layer(inputs[0])], "value": float(constant.ravel()[0])}

    def _add_to_convolution(self, operator, inputs, result):
        """A sum with a convolution that nothing else uses is taken with it: the page then keeps one plane less."""
        relu = self._relu("add", self._options(operator, schema.AddOptions))
        for convolution, other in (inputs, inputs[::-1]):
            number = self._made.get(convolution)
            if number is None or self._used[convolution] > 1 or self._constant(other) is not None:
                continue
            layer = self._layers[number]
            if layer["kind"] == "conv_2d" and not layer["relu"] and len(layer["from"]) == 1:
                layer["from"].append(self._layer(other))
                layer["relu"] = relu
                self._made[result] = number
                return True
        return False

    def _relu(self, kind, options):
        activation = options.FusedActivationFunction()
        if activation not in (schema.ActivationFunctionType.NONE, _RELU):
            raise self._unknown(f"{kind} with activation {activation}")
        return activation == _RELU

    def _unknown(self, what):
        return NoKernelsError(
            f"Expected a network of layers that the page can compute. Received: {self._name} ({what})"
        )
