"""What a slice is and belongs to: its UIDs, and the names that new ones are made from."""

import uuid
from dataclasses import dataclass, field

from pydicom.uid import UID

from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.refusal import DicomError

# Drawn once with uuid4.
_NAMESPACE = uuid.UUID("6f1bd1a2-9d0c-4c1e-8d57-3d9be0b65a47")

# What says whose an image is. Slices of one series agree in them (PS3.3 A.1.2.1: one patient for a study).
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate")

# What slices of one study share, for a study without a UID.
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber")

# Every attribute that `identity` reads from a dataset.
IDENTITY_TAGS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ConvolutionKernel",
    *_PATIENT,
    *_STUDY,
)


@dataclass(frozen=True)
class Identity:
    """What a slice is and belongs to.

    Args:
        slice_uid: Tells it from other slices: its object's SOP Instance UID, or, for a frame, a UID made from
            that and the frame's number.
        sop_instance_uid: Of its object.
        series_uid: Of its series.
        study_uid: Of its study.
        patient: Whose it is: a UID made from the patient's ID, name and date of birth, and from the study too where the
            ID tells nobody apart (`distinct_id`): rather two patients of one than one of two.
        patient_id: PatientID as the header has it, may be empty.
    """

    slice_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    patient: str
    patient_id: str = field(repr=False)

    @property
    def series_key(self):
        """Tells its series from all others; see `series_key`."""
        return series_key(self.patient, self.study_uid, self.series_uid)


def identity(path, dataset, frame=None):
    """The UIDs of a slice; where anonymisation emptied them, deterministic substitutes.

    The slice's own UID then comes from the meta header. The study gets one made from patient, date, time, numbers and
    frame of reference (the SeriesInstanceUID where that is missing); the series one made from what all slices of a
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
    if not (series_uid or frame_of_reference):
        raise DicomError(
            path, "has neither SeriesInstanceUID nor FrameOfReferenceUID: it belongs to no series"
        )
    patient_id = text(dataset, "PatientID")
    whose = [text(dataset, name).strip("^ ") for name in _PATIENT]
    if not study_uid:
        shared = (text(dataset, name) for name in _STUDY)
        study_uid = uid_from_name("substitute study", *whose, frame_of_reference or series_uid, *shared)
    patient = uid_from_name("patient", *whose, "" if distinct_id(patient_id) else study_uid)
    if not series_uid:
        shared = (text(dataset, name) for name in ("SeriesNumber", "SeriesDescription", "ConvolutionKernel"))
        series_uid = uid_from_name("substitute series", study_uid, frame_of_reference, *shared)
    slice_uid = sop_instance_uid if frame is None else uid_from_name("frame", sop_instance_uid, str(frame))
    return Identity(slice_uid, sop_instance_uid, series_uid, study_uid, patient, patient_id)


def distinct_id(patient_id):
    """A PatientID, or `""` where it is missing or a word that anonymisers give to everybody.

    Example:
        >>> [distinct_id(patient_id) for patient_id in ("L067", "Anonymous", "0000")]
        ['L067', '', '']
    """
    # Numbers tell patients apart, words do not; the AAPM-Mayo challenge calls all of its patients "Anonymous".
    return patient_id if any(letter.isdigit() for letter in patient_id) and patient_id.strip("0") else ""


def series_key(patient, study_uid, series_uid):
    """What tells a series from all others: a SeriesInstanceUID alone does not, because anonymisers and scanners repeat
    them.

    Args:
        patient: As in `Identity`.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.

    Returns:
        A UID made from the three.
    """
    return uid_from_name("source series", patient, study_uid, series_uid)


def uid_from_name(*parts):
    """The same UID for the same parts, always and everywhere (uuid5 below 2.25, PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}")


# Who writes these files and speaks on the network (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = uid_from_name("implementation")
IMPLEMENTATION_VERSION_NAME = "KPN_TF"
