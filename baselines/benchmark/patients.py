"""Patients who are in more than one part of a data set."""

from kpn_tf.dicom import find_series
from kpn_tf.dicom.identity import distinct_id


def shared_patients(folders):
    """Which folders show the same patient: what was trained on proves nothing in a test.

    Patients are told apart by their PatientID, or where that is missing or the same word for everybody, by the study.

    Args:
        folders: Paths by name.

    Returns:
        The first two names, or `None` if every patient is in one folder only.
    """
    seen = {}
    for name, folder in folders.items():
        for series in find_series(folder)[0]:
            other = seen.setdefault(distinct_id(series.patient_id) or series.patient, name)
            if other != name:
                return other, name
    return None
