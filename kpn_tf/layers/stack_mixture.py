"""A mixture of learnt unit-sum filters of all slices of a stack, as a layer."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kpn_tf.kernels import kernels_of_filters, wide_side
from kpn_tf.layers.hu_layer import HULayer
from kpn_tf.ops.filter_bank import gaussian_filters
from kpn_tf.ops.hu_input import expect_slices
from kpn_tf.ops.space_depth import depth_to_space
from kpn_tf.ops.stack_bank import (
    MOST_SCORE,
    block_phases_of,
    mirrored,
    odds_of,
    phases_of,
    small_responses,
    sums_of_phases,
    wide_responses,
)

# Below this side of a kernel, a wide filter has less than three blocks.
_LEAST_KERNEL = 9

# Side of the small filters, and how many small and wide ones there are: the middle slice's, and each neighbour's.
# Numbers are (isotropic Gaussians, directions of elongated ones); the first isotropic filter of the middle is a delta.
_MIDDLE: dict[str, Any] = {"side": 9, "small": (4, 8), "wide": (4, 8)}
_NEIGHBOUR: dict[str, Any] = {"side": 7, "small": (2, 6), "wide": (2, 0)}


@keras.saving.register_keras_serializable("kpn_tf")
class StackMixture(HULayer):
    """Filters every pixel with a convex mixture of the filters of all slices, each of which sums to one.

    Call it with a list `[stack, features]`, `(B, H, W, S)` in HU and `(B, H/2, W/2, F)`, and the 1×1 convolution that
    makes of features the phases of the scores, `(B, H/2, W/2, 4 * C)`. One softmax over the filters of all slices turns
    scores into shares. Every kernel sums to one over all its taps.
    It computes, and keeps its filters, in float32 under every dtype policy.

    Slice after slice is filtered and added up: the responses, or the shares, of all filters never exist at once.

    Args:
        kernel_size: Side `k` of the kernels, 9 or more, a multiple of 4 plus one.
        slices: Slices `S` of a stack, odd; the middle one has more filters than the others.

    Raises:
        ValueError: If the kernel size is another. When called, if the stack is not of this shape, no floats or not
            finite.

    Source: linear kernel prediction is a filter bank, `kpn_tf.ops.stack_bank`.
    """

    def __init__(self, kernel_size: int, slices: int, **kwargs: Any):
        super().__init__(**kwargs)
        if kernel_size < _LEAST_KERNEL or kernel_size % 4 != 1:
            raise ValueError(
                f"Expected a kernel_size of {_LEAST_KERNEL} or more, a multiple of 4 plus one: the wide filters are "
                f"centred on a block of 2×2 pixels. Received: {kernel_size}"
            )
        self.kernel_size = kernel_size
        self.slices = slices
        self._kinds = [_MIDDLE if z == slices // 2 else _NEIGHBOUR for z in range(slices)]

    def __call__(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        expect_slices(inputs[0], depth=self.slices, least=self.kernel_size // 2 + 1)
        return super().__call__(inputs, *args, **kwargs)

    @property
    def filters(self) -> Any:
        """Number of filters `C` of all slices."""
        return sum(sum(kind["small"]) + sum(kind["wide"]) for kind in self._kinds)

    def build(self, input_shape: Any) -> None:
        self.banks = []
        for z, kind in enumerate(self._kinds):
            sides = {"small": kind["side"], "wide": wide_side(self.kernel_size)}
            for name, side in sides.items():
                start = gaussian_filters(side, *kind[name], delta=kind is _MIDDLE and name == "small")
                weight = self.add_weight(
                    name=f"{name}_{z}",
                    shape=start.shape,
                    initializer=lambda shape, dtype=None, start=start: ops.convert_to_tensor(start, dtype),
                    dtype="float32",
                    autocast=False,
                )
                self.banks.append(weight)

    def unit_sum_banks(self) -> Any:
        """The filters as they are applied, for each slice the small ones `(n, n, C)` and the wide ones."""
        banks = [
            bank - (ops.sum(bank, axis=(0, 1), keepdims=True) - 1.0) / bank.shape[0] ** 2
            for bank in self.banks
        ]
        return list(zip(banks[::2], banks[1::2], strict=True))

    def kernels(self) -> Any:
        """Every filter as a kernel of every phase: NumPy arrays `(4, k, k, C)`, one for each slice."""
        return [kernels_of_filters(*map(ops.convert_to_numpy, filters)) for filters in self.unit_sum_banks()]

    def shares(self, scores: Any) -> Any:
        """Softmax over the filters of all slices: four phases `(B, H/2, W/2, C)`, row phase slowest."""
        phases = [_centred(phase) for phase in ops.split(scores, 4, axis=-1)]
        return [ops.softmax(ops.minimum(phase, MOST_SCORE), axis=-1) for phase in phases]

    def call(self, inputs: Sequence[Any], predictor: Any) -> Any:
        stack, features = inputs
        # Read here, where variables are float32 under every dtype policy, and applied a few columns at a time.
        kernel, bias = (
            _centred(ops.reshape(weight, (*weight.shape[2:-1], 4, self.filters)))
            for weight in (predictor.kernel, predictor.bias)
        )
        radius = self.kernel_size // 2
        padded = mirrored(stack, radius)
        blocks = block_phases_of(padded)
        phases = {}  # by the side of the filters that they have the border for
        weighted, total, references, first = [], [], [], 0
        for z, (small, wide) in enumerate(self.unit_sum_banks()):
            own, side = slice(4 * z, 4 * z + 4), small.shape[0]
            if side not in phases:
                spare = radius - side // 2
                phases[side] = phases_of(padded[:, spare : -spare or None, spare : -spare or None])
            found = [small_responses(phases[side][..., own], small), wide_responses(blocks[..., own], wide)]
            counts = [small.shape[-1], wide.shape[-1]]
            columns = [
                slice(first, first + counts[0]),
                slice(first + counts[0], first := first + sum(counts)),
            ]
            odds, reference = odds_of(
                features, *(_side_by_side([one[..., c] for c in columns]) for one in (kernel, bias))
            )
            weighted.append(sums_of_phases(odds * ops.concatenate(found, axis=-1), counts))
            total.append(sums_of_phases(odds, counts))
            references.append(reference)
        # Compared with the least of them: the square of 1e26, in the gradient of what is over a reference, is infinite.
        least = ops.stop_gradient(functools.reduce(ops.minimum, references))
        weighted, total = (
            functools.reduce(
                ops.add, [one * (least / own) for one, own in zip(sums, references, strict=True)]
            )
            for sums in (weighted, total)
        )
        return depth_to_space(weighted / total, 2)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (*input_shape[0][:-1], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "slices": self.slices}


def _side_by_side(weights):
    """Weights `(..., 4, C)` of several banks as columns `(..., 4 * C)`, those of the first bank first."""
    return ops.concatenate([ops.reshape(one, (*one.shape[:-2], -1)) for one in weights], axis=-1)


def _centred(scores):
    """What gives scores of mean zero over all filters: the shares are the same."""
    return scores - ops.mean(scores, axis=-1, keepdims=True)
