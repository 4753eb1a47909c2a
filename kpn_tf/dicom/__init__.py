"""CT series on disk <-> HU slices in memory, and derived series with an identity of their own."""

from kpn_tf.dicom.derived import derive_slice
from kpn_tf.dicom.derived_by import DerivedBy, derived_series_uid, derived_sop_instance_uid
from kpn_tf.dicom.reading import CTSlice, read_slice
from kpn_tf.dicom.refusal import DicomError, Refusal
from kpn_tf.dicom.series import Series, SliceFile, find_series
from kpn_tf.dicom.simulated_by import SimulatedBy
from kpn_tf.dicom.writing import OutputExistsError, write_slice

__all__ = [
    "CTSlice",
    "DerivedBy",
    "DicomError",
    "OutputExistsError",
    "Refusal",
    "Series",
    "SimulatedBy",
    "SliceFile",
    "derive_slice",
    "derived_series_uid",
    "derived_sop_instance_uid",
    "find_series",
    "read_slice",
    "write_slice",
]
