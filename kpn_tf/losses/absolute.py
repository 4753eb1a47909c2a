"""The mean absolute error, in the unit of the networks."""

from typing import Any

import keras
from keras import ops

from kpn_tf.hounsfield import UNIT_HU


@keras.saving.register_keras_serializable("kpn_tf")
def absolute_error(normal_hu: Any, denoised_hu: Any) -> Any:
    """Mean absolute error of denoised slices in unit scale: the loss `l1`.

    Args:
        normal_hu: Normal-dose slices `(B, H, W, 1)` in HU.
        denoised_hu: Denoised slices `(B, H, W, 1)` in HU.

    Returns:
        Scalar tensor, no unit.

    Example:

    >>> import numpy as np
    >>> flat_hu = np.zeros((1, 3, 5, 1), "float32")
    >>> round(float(absolute_error(flat_hu, flat_hu + 40)), 6)
    0.1
    """
    return ops.mean(ops.abs(denoised_hu - normal_hu)) / UNIT_HU
