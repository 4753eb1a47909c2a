"""PSNR and SSIM as Keras metrics, under a named convention: the numbers of `kpn_tf.metrics` while a network trains."""

from typing import Any

import keras
from keras import ops

from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics.fidelity import K1, K2

_SSIM_SIDE = 7


class _SliceMean(keras.metrics.MeanMetricWrapper):
    """Mean over slices of a number that each slice has under a convention; more is better."""

    def __init__(self, number, convention, name, dtype):
        if convention not in WINDOWS:
            raise ValueError(f"Expected convention to be one of {sorted(WINDOWS)}. Received: {convention!r}")
        super().__init__(number, name=name, dtype=dtype, window=WINDOWS[convention])
        self.convention = convention
        # What callbacks read where their mode is "auto".
        self._direction = "up"

    def get_config(self):
        return {"convention": self.convention, "name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("kpn_tf")
class PSNR(_SliceMean):
    """Mean over slices of the peak signal-to-noise ratio in dB: `kpn_tf.metrics.psnr` of each, to 1e-5 dB.

    Args:
        convention: A key of `kpn_tf.hounsfield.WINDOWS`: slices are clipped to that window, whose width is the peak.
        name: In logs; `psnr_soft` for the convention `soft`, so callbacks monitor `val_psnr_soft`.
        dtype: As in every Keras metric.

    Raises:
        ValueError: If the convention is unknown.

    Example:

    >>> import numpy as np
    >>> metric = PSNR("soft")
    >>> metric.update_state(np.zeros((2, 8, 9, 1)), np.full((2, 8, 9, 1), 40.0))
    >>> round(float(metric.result()), 4)
    20.0
    """

    def __init__(self, convention: str, name: str | None = None, dtype: Any = None):
        super().__init__(_psnr, convention, name or f"psnr_{convention}", dtype)


@keras.saving.register_keras_serializable("kpn_tf")
class SSIM(_SliceMean):
    """Mean over slices of the structural similarity index: `kpn_tf.metrics.ssim` of each, to 1e-5.

    Uniform windows of 7×7 that lie inside the slice, sample covariance.

    Args:
        convention: A key of `kpn_tf.hounsfield.WINDOWS`: slices are clipped to that window, whose width is the range.
        name: In logs; `ssim_soft` for the convention `soft`, so callbacks monitor `val_ssim_soft`.
        dtype: As in every Keras metric.

    Raises:
        ValueError: If the convention is unknown.

    Example:

    >>> import numpy as np
    >>> metric = SSIM("lung")
    >>> metric.update_state(np.zeros((1, 8, 9, 1)), np.zeros((1, 8, 9, 1)))
    >>> round(float(metric.result()), 4)
    1.0

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004, Eq. 13.
    """

    def __init__(self, convention: str, name: str | None = None, dtype: Any = None):
        super().__init__(_ssim, convention, name or f"ssim_{convention}", dtype)


def _clipped(slice_hu, window):
    """In widths of the window, (B, H, W, 1)."""
    return ops.clip(slice_hu, window.low_hu, window.high_hu) / window.width_hu


def _psnr(normal_hu, denoised_hu, window):
    error = _clipped(denoised_hu, window) - _clipped(normal_hu, window)
    return -10 * ops.log10(ops.mean(error**2, axis=(1, 2, 3)))


def _ssim(normal_hu, denoised_hu, window):
    x, y = _clipped(normal_hu, window), _clipped(denoised_hu, window)
    # Variances do not depend on where zero is, and near the middle of the values float32 loses less of them.
    middle = ops.mean(x, axis=(1, 2, 3), keepdims=True)
    u, v = x - middle, y - middle
    moments = ops.concatenate([u, v, u * u, v * v, u * v], axis=-1)
    for side in ((_SSIM_SIDE, 1), (1, _SSIM_SIDE)):
        moments = ops.average_pool(moments, side, strides=1, padding="valid", data_format="channels_last")
    mean_u, mean_v, square_u, square_v, product = ops.split(moments, 5, axis=-1)
    sample = _SSIM_SIDE**2 / (_SSIM_SIDE**2 - 1)
    variances = sample * (square_u - mean_u**2 + square_v - mean_v**2)
    covariance = sample * (product - mean_u * mean_v)
    mean_x, mean_y = mean_u + middle, mean_v + middle
    c1, c2 = K1**2, K2**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return ops.mean(similarity, axis=(1, 2, 3))
