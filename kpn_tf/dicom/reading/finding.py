"""A folder of anything -> CT series, sorted; a volume file is a series of its own."""

import filecmp
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from kpn_tf.dicom.identity import uid_from_name
from kpn_tf.dicom.reading.scope import outside_scope
from kpn_tf.dicom.reading.series import Series, SliceFile
from kpn_tf.dicom.reading.slice_header import read_slice_headers
from kpn_tf.dicom.reading.sorting import sorted_series
from kpn_tf.dicom.reading.volume_file import open_volume
from kpn_tf.dicom.reading.volume_format import volume_suffix
from kpn_tf.dicom.refusal import DicomError, Refusal
from kpn_tf.dicom.writing.derived_by import VOLUME_DENOISED, told_strength
from kpn_tf.dicom.writing.simulated_by import VOLUME_SIMULATED

# Last characters of a UID that name a series.
_LABEL = 12


def find_series(path):
    """Finds the CT series in a file or folder, reading headers only; NIfTI, NRRD and MetaImage are read whole.

    Folders are searched to the bottom. Links to folders are not followed: one that leads out of `path` is a refusal,
    and what is inside is found at its own place. Links to files are followed. The order of everything returned depends
    on the names and headers alone.

    Args:
        path: A file or a folder.

    Returns:
        `(series, refusals)`: a list of `Series` and a list of `Refusal`, which name every file, and every
        frame of an Enhanced CT object, left out. A single file that is not CT is a failure; in a folder it is
        merely skipped.

    Raises:
        DicomError: If `path` does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise DicomError(path, "does not exist")
    headers, volumes = [], {}
    files, refusals = _files(path)
    for file in files:
        try:
            if volume_suffix(file):
                volume = open_volume(file)
                original = volumes.setdefault(volume.sha256, _volume_series(volume)).slices[0].path
                if original != file:
                    refusals.append(_second_copy(file, original))
                continue
            slices, unreadable = read_slice_headers(file)
            headers += slices
            refusals += unreadable
        except DicomError as error:
            refusals.append(Refusal(file, error.reason, error.failure or not path.is_dir()))
    headers, duplicates = _without_duplicates(headers)
    series, unplaced = sorted_series(headers)
    left_out = refusals + duplicates + unplaced
    return _labelled([*volumes.values(), *series]), sorted(left_out, key=lambda refusal: str(refusal.path))


def _volume_series(volume):
    slices, rows, columns = volume.stored.shape
    orientation = volume.orientation
    normal = np.cross(orientation[:3], orientation[3:])
    uid = uid_from_name("volume", volume.sha256)
    return Series(
        uid=uid,
        study_uid="",
        patient=uid,
        patient_id="",
        frame_of_reference_uid="",
        label="",
        description="",
        kernel="",
        manufacturer="",
        rows=rows,
        columns=columns,
        pixel_spacing_mm=volume.spacing_mm[1:],
        thickness_mm=volume.spacing_mm[0],
        slices=tuple(
            SliceFile(
                volume.path,
                float(normal @ volume.corner_of(index)),
                uid_from_name("slice of a volume", volume.sha256, str(index)),
                index + 1,
                volume.spacing_mm[0],
            )
            for index in range(slices)
        ),
        denoised=volume.note.startswith(VOLUME_DENOISED),
        strength=told_strength(volume.note),
        simulated=volume.note.startswith(VOLUME_SIMULATED),
        outside=outside_scope(pydicom.Dataset(), orientation),
    )


def _files(path):
    if not path.is_dir():
        return [path], []
    files, left_out, root = [], [], os.path.realpath(path)

    def note(error):
        left_out.append(Refusal(Path(error.filename), f"cannot be opened ({type(error).__name__})", True))

    for folder, subfolders, names in os.walk(path, onerror=note):
        below = {name: os.path.join(folder, name) for name in sorted(subfolders)}
        links = {name for name, subfolder in below.items() if _is_link(subfolder)}
        subfolders[:] = [name for name in below if name not in links]
        for name in sorted(links):
            if not Path(os.path.realpath(below[name])).is_relative_to(root):
                reason = "is a link to a folder outside of the input, which is not followed; give that folder itself"
                left_out.append(Refusal(Path(below[name]), reason, False))
        files += [Path(folder, name) for name in sorted(names)]
    return files, left_out


def _is_link(folder):
    """Whether a folder is another one's second name: a symbolic link, or a junction of Windows."""
    # Before Python 3.12 a junction is no link to `os.walk`, and in a circle it would not end.
    return os.path.islink(folder) or bool(getattr(os.lstat(folder), "st_reparse_tag", 0))


def _without_duplicates(headers):
    """Keeps the first file of each SOP Instance UID in a series. One that differs may be another image: a failure."""
    first, kept, refusals = {}, [], {}
    for header in headers:
        original = first.setdefault((header.identity.series_key, header.identity.sop_instance_uid), header)
        if original.path == header.path:
            kept.append(header)
        elif header.path in refusals:
            continue  # another frame of it
        elif filecmp.cmp(original.path, header.path, shallow=False):
            refusals[header.path] = _second_copy(header.path, original.path)
        else:
            reason = (
                f"has the same SOPInstanceUID as {original.path} but other content; only that one is used"
            )
            refusals[header.path] = Refusal(header.path, reason, True)
    return kept, list(refusals.values())


def _second_copy(path, original):
    return Refusal(path, f"is a second copy of {original}", False)


def _labelled(found):
    """The series with labels that only parts of one series share."""
    by_key = {series.key: series for series in found}
    labels = {key: series.uid[-_LABEL:] for key, series in by_key.items()}
    labels = _told_apart(labels, [f" of study ...{series.study_uid[-_LABEL:]}" for series in by_key.values()])
    labels = _told_apart(labels, [f", number {number}" for number in range(1, len(by_key) + 1)])
    return [replace(series, label=labels[series.key]) for series in found]


def _told_apart(labels, ends):
    """The labels by key, with its end where several keys share one."""
    count = Counter(labels.values())
    return {
        key: label + end if count[label] > 1 else label
        for (key, label), end in zip(labels.items(), ends, strict=True)
    }
