"""Which pixels lie outside the field of view."""

import numpy as np

from kpn_tf.connected import connected
from kpn_tf.hounsfield import AIR_HU

# Below every attenuation (vacuum is -1000 HU) and the noise and undershoot of sharp kernels (to -1400 HU in
# public series), above the fill values seen in practice: -2000, -2048, -3024, -3072, -8192 HU.
UNMARKED_PADDING_HU = -1800.0

# A declared padding value above this could also be a grey value of the patient.
_TISSUE_ABOVE_HU = AIR_HU + 100.0


def padding_mask(stored, slice_hu, declared):
    """True where a pixel is not part of the reconstruction.

    Two rules, because the tag is often missing or wrong (public GE files hold -2000, the tag says -32768):

    - Every pixel at or below -1800 HU is padding. That also catches lossy files, where the fill value is
      blurred. Inside a patient only metal goes that low; returning such a pixel untouched does no harm.
    - Every pixel within the declared range is padding (PS3.3 C.7.5.1.1.2), unless that range reaches above
      -900 HU: then some tissue has the same grey value, and only what is connected to the border counts.

    Fill values of -1024 or -1000 HU without a tag stay in: they are what air looks like.

    Args:
        stored: Stored values `(H, W)`.
        slice_hu: The same in HU `(H, W)`.
        declared: `(low, high)` stored values from PixelPaddingValue and PixelPaddingRangeLimit, or None.

    Returns:
        bool `(H, W)`.
    """
    padding = slice_hu <= UNMARKED_PADDING_HU
    if declared is None:
        return padding
    in_range = (stored >= declared[0]) & (stored <= declared[1])
    if in_range.any() and slice_hu[in_range].max() > _TISSUE_ABOVE_HU:
        border = np.ones_like(in_range)
        border[1:-1, 1:-1] = False
        in_range = connected(in_range, border, corners=False)
    return padding | in_range
