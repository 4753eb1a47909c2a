"""What a slice is and belongs to: its UIDs, and the names that new ones are made from."""

import uuid
from dataclasses import dataclass

from pydicom.uid import UID

from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.refusal import DicomError

# Drawn once with uuid4.
_NAMESPACE = uuid.UUID("6f1bd1a2-9d0c-4c1e-8d57-3d9be0b65a47")


@dataclass(frozen=True)
class Identity:
    """What a slice is and belongs to.

    Args:
        slice_uid: Tells it from other slices: its object's SOP Instance UID, or, for a frame, a UID made from
            that and the frame's number.
        sop_instance_uid: Of its object.
        series_uid: Of its series.
        study_uid: Of its study.
    """

    slice_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str


def identity(path, dataset, frame=None):
    """The UIDs of a slice; where anonymisation emptied them, deterministic substitutes.

    The slice's own UID then comes from the meta header. Series and study get one made of what all slices of a
    reconstruction share: frame of reference, number, description and kernel.

    Args:
        path: The file, for messages.
        dataset: Its dataset.
        frame: Its number in an object with several frames, or None.

    Returns:
        An `Identity`.

    Raises:
        DicomError: If there is too little to tell slices or series apart.
    """
    sop_instance_uid = text(dataset, "SOPInstanceUID") or text(
        dataset.file_meta, "MediaStorageSOPInstanceUID"
    )
    if not sop_instance_uid:
        raise DicomError(path, "has no SOPInstanceUID: it cannot be told from other slices")
    frame_of_reference = text(dataset, "FrameOfReferenceUID")
    series_uid, study_uid = text(dataset, "SeriesInstanceUID"), text(dataset, "StudyInstanceUID")
    for keyword, value in (("SeriesInstanceUID", series_uid), ("StudyInstanceUID", study_uid)):
        if not (value or frame_of_reference):
            raise DicomError(path, f"has neither {keyword} nor FrameOfReferenceUID: it belongs to no series")
    study_uid = study_uid or uid_from_name("substitute study", frame_of_reference)
    if not series_uid:
        shared = (text(dataset, name) for name in ("SeriesNumber", "SeriesDescription", "ConvolutionKernel"))
        series_uid = uid_from_name("substitute series", study_uid, frame_of_reference, *shared)
    slice_uid = sop_instance_uid if frame is None else uid_from_name("frame", sop_instance_uid, str(frame))
    return Identity(slice_uid, sop_instance_uid, series_uid, study_uid)


def uid_from_name(*parts):
    """The same UID for the same parts, always and everywhere (uuid5 below 2.25, PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}")


# Who writes these files and speaks on the network (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = uid_from_name("implementation")
IMPLEMENTATION_VERSION_NAME = "KPN_TF"
