"""Patients who are in more than one part of a data set."""

from kpn_tf.dicom import find_series
from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.reading.header import read_dataset


def shared_patients(folders):
    """Which folders show the same patient: what was trained on proves nothing in a test.

    Patients are told apart by their PatientID, or where that is empty by the study.

    Args:
        folders: Paths by name.

    Returns:
        The first two names, or `None` if every patient is in one folder only.
    """
    seen = {}
    for name, folder in folders.items():
        for series in find_series(folder)[0]:
            header = read_dataset(series.slices[0].path, stop_before_pixels=True, specific_tags=["PatientID"])
            other = seen.setdefault(text(header, "PatientID") or series.study_uid, name)
            if other != name:
                return other, name
    return None
