"""Whether the values of a series are HU: what the headers say is not always so."""

import numpy as np

from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.reading.ct_slice import read_slice
from kpn_tf.dicom.refusal import DicomError

# Slices that are looked at: a series of 1,000 costs no more than one of 10.
_LOOKED_AT = 6

# Fewer pixels prove nothing: crops of a few millimetres hold neither air nor fat.
_FEW = 4096

# Air and lung lie below, bone and metal above; between them soft tissue, fluids, fat.
_AIR_BELOW_HU, _TISSUE_HU, _BONE_ABOVE_HU = -500.0, (-200.0, 300.0), 500.0

# A slice of a body has more below 0 HU: fat, air, half of the noise of water. A piece of muscle may not, but it has no
# even background either.
_LEAST_BELOW_ZERO, _EVEN = 0.001, 0.05


def other_scale(parts):
    """Looks whether the values of a series can be HU, in a few of its slices.

    Air lies near -1000 HU and soft tissue near 0. Cone beam CT and tomosynthesis stored as CT have grey values with
    air at 0; maps without a RescaleType have nothing below 0. One slice may lack all of this, a series does not.
    RescaleType US (unspecified) is taken only where air or soft tissue is found in its place.

    Args:
        parts: `Series` of one key.

    Returns:
        One sentence that says why the values are no HU, or `None`. Slices that cannot be read are passed over.

    Source: DICOM PS3.3 C.11.1.1.2 (Rescale Type); McCollough et al., Radiology 276 (2015), 637, for the places of
    tissues on the scale.
    """
    files = [file for part in parts for file in part.slices]
    count = min(_LOOKED_AT, len(files))
    values, unspecified = [], False
    for index in np.linspace(0, len(files) - 1, count).round().astype(int):
        try:
            ct = read_slice(files[index].path, files[index].frame)
        except DicomError:
            continue  # It is named when its turn comes.
        values.append(ct.slice_hu[~ct.padding])
        unspecified |= text(ct.dataset, "RescaleType").upper() == "US"
    return _told(np.concatenate(values), unspecified) if values else None


def _told(values, unspecified):
    """The sentence about values `(n,)`, or `None`."""
    if values.size == 0:
        return None
    air = np.mean(values < _AIR_BELOW_HU)
    tissue = np.mean((values > _TISSUE_HU[0]) & (values < _TISSUE_HU[1]))
    bone = np.mean(values > _BONE_ABOVE_HU)
    marrow = 1 - tissue - bone - np.mean(values <= _TISSUE_HU[0])
    if values.size >= _FEW and values.min() < values.max():
        even = np.mean(values == values.min()) > _EVEN
        if np.mean(values < 0) < _LEAST_BELOW_ZERO and (even or tissue < 0.5):
            return "its values are no HU: nothing lies below 0, where air, fat and noise would be"
        # Bone comes with marrow and partial volume; what stands alone far above the rest is tissue, and the rest air.
        if air < 0.01 and bone > 0.05 and bone > 2 * marrow:
            return (
                f"its values are no HU: there is no air near -1000, and {bone:.0%} of them lie above "
                f"{_BONE_ABOVE_HU:g}"
            )
    if unspecified and air < 0.01 and tissue < 0.5:
        return (
            "has RescaleType US (unspecified), and neither air near -1000 HU nor soft tissue near 0 HU shows that its "
            "values are HU"
        )
    return None
