"""How good a network is on validation patients, while it trains."""

from typing import Any

from kpn_tf.losses import PSNR, SSIM


def validation_scores(network: Any, pairs: Any) -> dict[str, float]:
    """Means over slices of PSNR and SSIM, convention `soft`; the PSNR chooses the best checkpoint.

    Args:
        network: Keras model, or another function of slices `(1, H, W, 1)`, HU to HU.
        pairs: Sequence of objects with `low_hu` and `normal_hu`, slices `(H, W)` in HU of validation patients.

    Returns:
        Dict with `psnr_soft` in dB and `ssim_soft`.
    """
    metrics = PSNR("soft"), SSIM("soft")
    for pair in pairs:
        denoised = network(pair.low_hu[None, :, :, None])
        for metric in metrics:
            metric.update_state(pair.normal_hu[None, :, :, None], denoised)
    return {metric.name: float(metric.result()) for metric in metrics}
