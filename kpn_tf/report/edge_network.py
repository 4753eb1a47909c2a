"""The weights of an `edge` network out of its .tflite, and its kernels by NumPy: what the page computes again."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kpn_tf.denoiser.tiling import grown
from kpn_tf.hounsfield import SEEN, UNIT_HU, WINDOWS

MULTIPLE = 4
_PHASES = 4

# Rows and columns of each convolution of the trunk and of the predictor, in the order in which they run.
_SIDES = (3, *(3, 3), 2, *(3,) * 8, 1, *(3, 3), 1)


class NoEdgeNetworkError(ValueError):
    """A file holds no network whose kernels are mixtures of a bank; one sentence that says so."""


@dataclass(frozen=True)
class Convolution:
    """Weights of one convolution.

    Args:
        filters: `(rows, columns, C_in, C_out)` float32.
        bias: `(C_out,)` float32.
    """

    filters: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class EdgeNetwork:
    """Preset `edge` of `StructKPN`, as far as it decides what the kernels are.

    Args:
        convolutions: The sixteen of the trunk and the predictor, in the order in which they run.
        bank: `(k, k, C)` float32, filters of unit sum.
    """

    convolutions: tuple[Convolution, ...]
    bank: np.ndarray

    def kernels_at(self, slice_hu, rows, columns):
        """The kernels at chosen pixels, as `StructKPN.kernels_at` gives them.

        Args:
            slice_hu: One slice `(H, W)` in HU.
            rows: Rows of the pixels, N integers.
            columns: Columns of the pixels, likewise.

        Returns:
            `(N, k, k)`; tap `(i, j)` weighs the pixel at row offset `i - k // 2` and column offset `j - k // 2`.
        """
        shares = self.shares(slice_hu)[rows, columns]  # (N, C)
        return np.einsum("nc,ijc->nij", shares, self.bank)

    def shares(self, slice_hu):
        """How much of each filter of the bank every pixel takes.

        Args:
            slice_hu: One slice `(H, W)` in HU.

        Returns:
            `(H, W, C)` float32, of sum one at every pixel.
        """
        height, width = slice_hu.shape
        slice_hu = np.clip(np.asarray(slice_hu, np.float32), SEEN.low_hu, SEEN.high_hu)
        slice_hu = grown(slice_hu, multiple=MULTIPLE)
        soft = WINDOWS["soft"]
        windowed = np.clip(slice_hu, soft.low_hu, soft.high_hu) - (soft.low_hu + soft.high_hu) / 2
        both = np.stack([slice_hu / UNIT_HU, windowed / (soft.width_hu / 4)], axis=-1)
        encoder, first, second, down, *middle, up, third, fourth, predictor = self.convolutions
        encoded = _convolve(_to_depth(both), encoder)
        fine = encoded + _convolve(_rectified(_convolve(encoded, first)), second)
        coarse = _convolve(_to_depth(fine), Convolution(_as_one_by_one(down.filters), down.bias))
        for inner, outer in zip(middle[::2], middle[1::2], strict=True):
            coarse = coarse + _convolve(_rectified(_convolve(coarse, inner)), outer)
        fine = fine + _to_space(_convolve(coarse, up))
        fine = fine + _convolve(_rectified(_convolve(fine, third)), fourth)
        scores = _to_space(_convolve(fine, predictor))  # (H', W', C)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (shares / shares.sum(axis=-1, keepdims=True))[:height, :width]


def read_edge_network(path):
    """Reads the weights of an `edge` network.

    Args:
        path: A .tflite in float16 or float32, as `export` writes it.

    Returns:
        An `EdgeNetwork`.

    Raises:
        NoEdgeNetworkError: If the file holds another network, or one of integers.
    """
    convolutions = _convolutions(path.read_bytes())
    # The bank sees the slice itself, in phases; everything else is the trunk and the predictor.
    banks = [c for c in convolutions if c.filters.shape[2] == _PHASES]
    trunk = tuple(c for c in convolutions if c.filters.shape[2] != _PHASES)
    sides = tuple(c.filters.shape[0] for c in trunk)
    if len(banks) != 1 or sides != _SIDES or trunk[-1].bias.shape != banks[0].bias.shape:
        raise NoEdgeNetworkError(
            f"Expected a network of preset edge in float16 or float32. Received: {path.name}, whose kernels are no "
            "mixtures of a bank that can be read"
        )
    return EdgeNetwork(trunk, _whole_filters(banks[0].filters))


def _convolutions(content):
    """Every convolution of the graph, in the order in which they run."""
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    made_by, found = {}, []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == schema.BuiltinOperator.DEQUANTIZE:
            made_by[operator.Outputs(0)] = operator.Inputs(0)
        elif kind == schema.BuiltinOperator.CONV_2D:
            filters, bias = (_constant(model, made_by.get(n, n)) for n in operator.InputsAsNumpy()[1:])
            found.append(Convolution(np.moveaxis(filters, 0, -1), bias))
    return found


def _constant(model, number):
    tensor = model.Subgraphs(0).Tensors(number)
    types = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    if tensor.Type() not in types:
        raise NoEdgeNetworkError(
            "Expected weights in float16 or float32. Received: integers, of which the page would show other kernels"
        )
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(types[tensor.Type()])
    return values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)


def _whole_filters(polyphase):
    """The filters of a bank in phases `(M, M, 4, 4 * C)`, `(k, k, C)`: `kpn_tf.ops.filter_bank.polyphase_filters`
    turned round for the phase that is not shifted."""
    blocks, count = polyphase.shape[0], polyphase.shape[3] // _PHASES
    first = polyphase[..., :count].reshape(blocks, blocks, 2, 2, count)
    # One row and column of the blocks are there for the shifted phases alone.
    return first.transpose(0, 2, 1, 3, 4).reshape(2 * blocks, 2 * blocks, count)[:-1, :-1]


def _to_depth(image):
    """`(H, W, C)` to `(H/2, W/2, 4 * C)`: row phase, column phase, channel."""
    height, width, channels = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, channels)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(height // 2, width // 2, 4 * channels)


def _to_space(phases):
    """`(h, w, 4 * C)` to `(2 * h, 2 * w, C)`."""
    height, width, depth = phases.shape
    blocks = phases.reshape(height, width, 2, 2, depth // 4).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(2 * height, 2 * width, depth // 4)


def _as_one_by_one(filters):
    """2×2 filters of stride 2 as filters of the phases."""
    return filters.reshape(1, 1, -1, filters.shape[3])


def _convolve(image, convolution):
    """Zeros beyond the border, stride 1: `(H, W, C_in)` to `(H, W, C_out)`."""
    side = convolution.filters.shape[0]
    margin = side // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (side, side), axis=(0, 1)
    )  # (H, W, C_in, k, k)
    return np.tensordot(windows, convolution.filters, ((3, 4, 2), (0, 1, 2))) + convolution.bias


def _rectified(image):
    return np.maximum(image, 0)
