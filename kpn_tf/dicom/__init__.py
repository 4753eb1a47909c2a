"""CT series on disk <-> HU slices in memory, and derived series with an identity of their own."""

from kpn_tf.dicom.reading.ct_slice import CTSlice, read_slice
from kpn_tf.dicom.reading.decoder_process import stop_decoding
from kpn_tf.dicom.reading.finding import find_series
from kpn_tf.dicom.reading.scale import other_scale
from kpn_tf.dicom.reading.series import Series, SliceFile
from kpn_tf.dicom.reading.volume import Volume, read_volume
from kpn_tf.dicom.reading.volume_file import open_volume
from kpn_tf.dicom.reading.volume_format import derived_name, volume_suffix
from kpn_tf.dicom.refusal import DicomError, Refusal
from kpn_tf.dicom.writing.derived import derive_slice
from kpn_tf.dicom.writing.derived_by import DerivedBy, derived_series_uid, derived_sop_instance_uid
from kpn_tf.dicom.writing.file import OutputExistsError, is_written, write_slice
from kpn_tf.dicom.writing.simulated_by import SimulatedBy

__all__ = [
    "CTSlice",
    "DerivedBy",
    "DicomError",
    "OutputExistsError",
    "Refusal",
    "Series",
    "SimulatedBy",
    "SliceFile",
    "Volume",
    "derive_slice",
    "derived_name",
    "derived_series_uid",
    "derived_sop_instance_uid",
    "find_series",
    "is_written",
    "open_volume",
    "other_scale",
    "read_slice",
    "read_volume",
    "stop_decoding",
    "volume_suffix",
    "write_slice",
]
