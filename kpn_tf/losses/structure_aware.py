"""The structure-aware loss: edges, fine structure and flat regions are weighed differently."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kpn_tf.hounsfield import UNIT_HU, WINDOWS
from kpn_tf.metrics.structure import NEIGHBOURHOOD, SIGMA_L1, SIGMA_L2
from kpn_tf.ops.ssim import ssim_map
from kpn_tf.ops.structure_tensor import STRENGTHS, strength_and_coherence

TERMS = ("l2", "l1", "ssim")
ABSOLUTE = ("hu", "window", None)


def window_unit(slice_hu, window):
    """HU to the unit scale of a window: its lower end is 0, its upper end 1, clipped outside.

    Args:
        slice_hu: Tensor of any shape in HU.
        window: `kpn_tf.hounsfield.Window`.

    Returns:
        Tensor of the same shape in [0, 1].
    """
    return ops.clip((slice_hu - window.low_hu) / window.width_hu, 0.0, 1.0)


@keras.saving.register_keras_serializable("kpn_tf")
class StructureAwareLoss(keras.losses.Loss):
    """Per pixel `(g1 L2 + g2 L1 - g3 SSIM) / 2 + L1 / 2` with weights from the normal-dose slice.

    `[g1, g2, g3] = softmax([coherence * sigma_l2, sigma_l1, strength])`: squared error on edges, absolute error on
    flat regions, structural similarity on strong structure. The weights carry no gradient. All but the last term see
    the window, on [0, 1], where the paper's constants have their meaning.

    **Ours differs from the paper's in the last term:** it is taken over all of HU (unit 400 HU, the same scale inside
    the window), so that lung and bone, which the window clips, are kept right as well.
    `StructureAwareLoss(absolute="window")` is the paper's, and `absolute=None` leaves `g1 L2 + g2 L1 - g3 SSIM` alone.

    Other exponents than 2 and 1 are one line: `class Cubic(StructureAwareLoss): exponents = (3, 1)`.

    Args:
        size: Odd side of the neighbourhood of structure and similarity in pixels.
        strength: `"literal"` (larger eigenvalue, Eq. 2 as written) or `"sqrt"` (its root).
        sigma_l2: What coherence is multiplied with.
        sigma_l1: Score of the absolute error.
        window: A key of `kpn_tf.hounsfield.WINDOWS`.
        absolute: Where the last term is taken: `"hu"`, `"window"`, or `None` for none.
        terms: Those of `"l2"`, `"l1"` and `"ssim"` that the weights are shared among.
        reduction: As in every Keras loss.
        name: As in every Keras loss.
        dtype: As in every Keras loss.

    Raises:
        ValueError: If an argument is unknown or out of range.

    Example:

    >>> import numpy as np
    >>> slice_hu = np.zeros((1, 16, 16, 1), "float32")
    >>> round(float(StructureAwareLoss()(slice_hu, slice_hu)), 3)  # only -SSIM/2, a third of the weight, is left
    -0.146

    Source: Xu et al., ICIP 2021, Eq. 2 to 6.
    """

    # Of the absolute error, in the terms `l2` and `l1`.
    exponents = (2, 1)

    def __init__(
        self,
        size: int = NEIGHBOURHOOD,
        strength: str = "literal",
        *,
        sigma_l2: float = SIGMA_L2,
        sigma_l1: float = SIGMA_L1,
        window: str = "soft",
        absolute: str | None = "hu",
        terms: Sequence[str] = TERMS,
        reduction: str | None = "sum_over_batch_size",
        name: str = "structure_aware",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"Expected an odd size of 1 or more. Received: {size}")
        if not np.isfinite([sigma_l2, sigma_l1]).all():
            raise ValueError(f"Expected finite numbers. Received: sigma_l2={sigma_l2}, sigma_l1={sigma_l1}")
        for word, value, known in (
            ("strength", strength, STRENGTHS),
            ("window", window, tuple(WINDOWS)),
            ("absolute", absolute, ABSOLUTE),
        ):
            if value not in known:
                raise ValueError(f"Expected {word} to be one of {known}. Received: {value!r}")
        if not terms or not set(terms) <= set(TERMS):
            raise ValueError(f"Expected one or more of the terms {TERMS}. Received: {terms!r}")
        self.size = size
        self.strength = strength
        self.sigma_l2 = sigma_l2
        self.sigma_l1 = sigma_l1
        self.window = window
        self.absolute = absolute
        self.terms = tuple(term for term in TERMS if term in terms)

    def weights(self, normal_hu: Any) -> Any:
        """The three weights of every pixel, for the loss and for pictures of it.

        Args:
            normal_hu: Normal-dose slices `(B, H, W, 1)` in HU.

        Returns:
            Tensor `(B, H, W, 3)`: shares of L2, L1 and SSIM; they sum to one.
        """
        unit = window_unit(normal_hu, WINDOWS[self.window])
        strength, coherence = strength_and_coherence(unit, self.size, self.strength)
        scores = [coherence * self.sigma_l2, ops.full_like(coherence, self.sigma_l1), strength]
        # A term that is left out has no share.
        left_out = -1e9
        scores = [
            score if term in self.terms else ops.full_like(score, left_out)
            for term, score in zip(TERMS, scores, strict=True)
        ]
        return ops.stop_gradient(ops.softmax(ops.concatenate(scores, axis=-1), axis=-1))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of every pixel.

        Args:
            y_true: Normal-dose slices `(B, H, W, 1)` in HU.
            y_pred: Denoised slices `(B, H, W, 1)` in HU.

        Returns:
            Tensor `(B, H, W)`, no unit.
        """
        share_l2, share_l1, share_ssim = ops.split(self.weights(y_true), 3, axis=-1)
        window = WINDOWS[self.window]
        normal, denoised = window_unit(y_true, window), window_unit(y_pred, window)
        error = ops.abs(denoised - normal)
        edges, flat = (error**exponent for exponent in self.exponents)
        structural = share_l2 * edges + share_l1 * flat - share_ssim * ssim_map(normal, denoised, self.size)
        if self.absolute is None:
            return ops.squeeze(structural, axis=-1)
        absolute = error if self.absolute == "window" else ops.abs(y_pred - y_true) / UNIT_HU
        return ops.squeeze((structural + absolute) / 2, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "strength": self.strength,
            "sigma_l2": self.sigma_l2,
            "sigma_l1": self.sigma_l1,
            "window": self.window,
            "absolute": self.absolute,
            "terms": list(self.terms),
        }
