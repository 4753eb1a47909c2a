"""BM3D, the strongest denoiser without training; its licence allows non-commercial use only."""

import functools
import importlib
import warnings

import numpy as np

from baselines.calibration import (
    calibrated_sigma_hu,
    checked_sigma_hu,
    checked_slice_hu,
    noise_power_hu2,
)

# The side of its search window: on slices smaller than a block bm3d 4.0.3 raises, or ends the process.
_SMALLEST_SIDE = 39

# Sigma over the noise in flat tissue, the best of these on the validation patient (crlm_1006_abdomen, a quarter dose by
# simulation, six slices at each noise; the pairs of `kpn benchmark`). PSNR soft in dB, bm3d 4.0.3, 2026-11:
#   factor                        0.8    0.9    1.0   white noise of 1.0
#   noise 21 HU, low dose 31.97   36.39  36.36  36.08*       36.55
#   noise 31 HU, low dose 27.85   31.69  31.85  32.02*       31.91
# (* three slices each.) White noise does as well there, but not in general: of noise of 30 HU in the same anatomy
# (three slices, factor 1.0), BM3D took 3.34 dB rather than 2.54 where it was blotchy (the soft kernel's spectrum at
# 0.6 of its frequencies), 4.10 rather than 4.12 at the soft kernel's, 4.59 rather than 4.58 at the sharp one's.
FACTOR = 0.9

# Over the noise of a coefficient. Left to itself, the package looks one up for each spectrum, with a function that
# NumPy 2.4 dropped. `mu2`, of the stage that is not run, must be given as well.
THRESHOLD = 2.7

LICENCE = "BM3D: the package bm3d (Tampere University) may be used for non-commercial purposes only"


class LicenceWarning(UserWarning):
    """What follows uses software that is not free for every purpose."""


class BM3D:
    """Block matching and 3-D filtering, hard-thresholding stage only.

    The Wiener stage assumes white noise; on CT's coloured noise the first stage alone is the better denoiser
    (measured on quarter-dose slices). For the same reason sigma is calibrated, and with it the noise's power at each
    frequency: noise estimators that look at neighbouring pixels read less than half of what is there, and blotchy
    noise told as white stays.

    Args:
        sigma_hu: Standard deviation of the noise in HU, then taken for white; `None` calibrates strength and
            spectrum for every slice.

    Raises:
        ImportError: If the extra is not installed.
        ValueError: If `sigma_hu` is not positive.

    Example:

    ```python
    denoise = BM3D()
    quiet_hu = denoise(slice_hu)  # (H, W) -> (H, W)
    ```

    Source: Dabov, Foi, Katkovnik, Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative
    filtering", IEEE Trans Image Process 16 (2007); package bm3d.
    """

    def __init__(self, sigma_hu=None):
        self.sigma_hu = checked_sigma_hu(sigma_hu)
        try:
            self._bm3d = importlib.import_module("bm3d")
        except ModuleNotFoundError as error:
            raise ImportError("BM3D needs the baselines extra: pip install 'kpn-tf[baselines]'") from error
        _name_licence()

    def __call__(self, slice_hu):
        """Denoises one slice.

        Args:
            slice_hu: `(H, W)` in HU; it is not altered.

        Returns:
            New float32 `(H, W)` array in HU; the values given where calibration finds no noise.

        Raises:
            ValueError: If the slice is not two-dimensional, is empty, or holds NaN or infinity.
        """
        slice_hu = checked_slice_hu(slice_hu)
        sigma_hu = self.sigma_hu or calibrated_sigma_hu(slice_hu, FACTOR)
        if sigma_hu == 0:
            return slice_hu.astype(np.float32)
        spare = [(0, max(0, _SMALLEST_SIDE - side)) for side in slice_hu.shape]
        padded_hu = np.pad(slice_hu, spare, mode="symmetric")
        profile = self._bm3d.BM3DProfile()
        profile.lambda_thr3d, profile.mu2 = THRESHOLD, 1.0
        denoised_hu = self._bm3d.bm3d(
            padded_hu,
            sigma_psd=self.sigma_hu or noise_power_hu2(padded_hu, sigma_hu),
            profile="np" if self.sigma_hu else profile,
            stage_arg=self._bm3d.BM3DStages.HARD_THRESHOLDING,
        )
        rows, columns = slice_hu.shape
        return denoised_hu[:rows, :columns].astype(np.float32)


@functools.cache
def _name_licence():
    """Says once per process what may be done with the package."""
    warnings.warn(LICENCE, LicenceWarning, stacklevel=3)
