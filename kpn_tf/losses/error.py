"""Errors of denoised slices, in the unit of the networks: absolute, and squared where it is small."""

from typing import Any

import keras
from keras import ops

from kpn_tf.hounsfield import UNIT_HU

# Errors below count squared: more than a faint lesion's contrast and the noise that is left.
SQUARED_BELOW_HU = 30.0


@keras.saving.register_keras_serializable("kpn_tf")
def absolute_error(normal_hu: Any, denoised_hu: Any) -> Any:
    """Absolute error of every pixel of denoised slices in unit scale: the loss `l1` is its mean.

    Args:
        normal_hu: Normal-dose slices `(B, H, W, 1)` in HU.
        denoised_hu: Denoised slices `(B, H, W, 1)` in HU.

    Returns:
        Tensor `(B, H, W, 1)`, no unit; Keras takes the mean, by sample weights where there are any.

    Example:

    >>> import numpy as np
    >>> flat_hu = np.zeros((1, 3, 5, 1), "float32")
    >>> round(float(absolute_error(flat_hu, flat_hu + 40)[0, 0, 0, 0]), 6)
    0.1
    """
    return ops.abs(denoised_hu - normal_hu) / UNIT_HU


@keras.saving.register_keras_serializable("kpn_tf")
class HuberError(keras.losses.Loss):
    """Huber's error of denoised slices in unit scale: the loss `huber`.

    Absolute error is least at the median of what a slice may hold, which drops a lesion that is less likely than not;
    squared error at the mean, which keeps it in proportion to its probability. Beyond 30 HU the error counts as it
    does in `absolute_error`, so that edges and bone do not outweigh faint structure. Sample weights `(B, H, W, 1)`
    say what each pixel counts.

    Args:
        reduction: As in every Keras loss.
        name: As in every Keras loss.
        dtype: As in every Keras loss.

    Example:

    >>> import numpy as np
    >>> flat_hu = np.zeros((1, 3, 5, 1), "float32")
    >>> [round(float(HuberError()(flat_hu, flat_hu + hu)), 6) for hu in (15, 30, 45)]
    [0.009375, 0.0375, 0.075]

    Source: Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).
    """

    def __init__(
        self, reduction: str = "sum_over_batch_size", name: str | None = "huber_error", dtype: Any = None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        error = absolute_error(y_true, y_pred)
        limit = SQUARED_BELOW_HU / UNIT_HU
        small = ops.minimum(error, limit)
        return small * small / (2 * limit) + (error - small)
