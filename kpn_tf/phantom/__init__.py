"""A digital torso of known HU, and the DICOM series it makes. NumPy and pydicom only."""

from kpn_tf.phantom.anatomy import LESIONS, TISSUE_HU, Lesion, Tissue
from kpn_tf.phantom.series import write_series
from kpn_tf.phantom.torso import NORMAL_DOSE_NOISE_HU, Torso, torso

__all__ = [
    "LESIONS",
    "NORMAL_DOSE_NOISE_HU",
    "TISSUE_HU",
    "Lesion",
    "Tissue",
    "Torso",
    "torso",
    "write_series",
]
