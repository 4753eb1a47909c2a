"""A folder of anything -> CT series, sorted; a volume file is a series of its own."""

import filecmp
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom

from kpn_tf.dicom.identity import series_key, uid_from_name
from kpn_tf.dicom.reading.scope import outside_scope
from kpn_tf.dicom.reading.slice_header import read_slice_headers
from kpn_tf.dicom.reading.volume_file import open_volume, volume_suffix
from kpn_tf.dicom.refusal import DicomError, Refusal, of_frame
from kpn_tf.dicom.writing.derived_by import VOLUME_DENOISED
from kpn_tf.dicom.writing.simulated_by import VOLUME_SIMULATED
from kpn_tf.neighbours import neighbours_of

# Slices of one scan agree to the last digit; what differs by more was another reconstruction.
_SAME_DIRECTION = 1e-3
_SAME_SPACING_MM = 1e-4

# Last characters of a UID that name a series.
_LABEL = 12


@dataclass(frozen=True)
class SliceFile:
    """One slice of a series.

    Args:
        path: The file.
        position_mm: Position along the slice normal. Where the header has none: SliceLocation, or, last of
            all, the InstanceNumber, which only gives the order.
        sop_instance_uid: Its identity. That of a frame is a UID made from its object's and its number.
        frame: Its number, from 1, in an Enhanced CT object or a volume file; None where the file is the slice.
        thickness_mm: Its thickness, or None.
        acquisition_number: Of the acquisition that it comes from; 0 if the header has none.
    """

    path: Path
    position_mm: float
    sop_instance_uid: str
    frame: int | None = None
    thickness_mm: float | None = None
    acquisition_number: int = 0


@dataclass(frozen=True)
class Series:
    """Slices that share patient, study, series, size, orientation and pixel spacing.

    A series that mixes several of these geometries (a localizer's neighbours, reformats) becomes several `Series` with
    the same `key`. The same SeriesInstanceUID in two studies, or with two patients, is two series.

    Args:
        uid: Series Instance UID.
        study_uid: Study Instance UID.
        patient: Whose it is, as in `kpn_tf.dicom.identity.Identity`.
        patient_id: PatientID of its first slice, may be empty.
        frame_of_reference_uid: Of its positions, may be empty: one for all reconstructions of a scan.
        label: Names it in lines and tables without saying whose it is: the last characters of its UID, and of its
            study's where another series that was found ends alike.
        description: Series description, may be empty.
        kernel: Convolution kernel, may be empty.
        manufacturer: Manufacturer, may be empty.
        rows: Rows of every slice.
        columns: Columns of every slice.
        pixel_spacing_mm: Between rows, between columns.
        thickness_mm: Slice thickness, or None.
        slices: Sorted by position; phases at the same position all stay, in order of acquisition.
        denoised: True if this package denoised it: denoising it again would be a mistake.
        simulated: True if this package lowered its dose: lowering it again would be a mistake.
        outside: What of its slices networks were not made for, as `kpn_tf.dicom.reading.scope.outside_scope` tells it.
        ruler: Attribute of the headers that `position_mm` of the slices comes from: `"position_mm"`
            (ImagePositionPatient), `"slice_location_mm"`, or `"instance_number"`, which only gives the order.
    """

    uid: str
    study_uid: str
    patient: str
    patient_id: str = field(repr=False)
    frame_of_reference_uid: str
    label: str
    description: str
    kernel: str
    manufacturer: str
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slices: tuple[SliceFile, ...]
    denoised: bool = False
    simulated: bool = False
    outside: tuple[str, ...] = ()
    ruler: str = "position_mm"

    @property
    def key(self):
        """Tells the series from all others: its UID alone does not."""
        return series_key(self.patient, self.study_uid, self.uid)

    def neighbours(self, index, slices):
        """The neighbours of a slice, as `kpn_tf.neighbours.neighbours_of` finds them.

        Args:
            index: Of the slice.
            slices: Slices of a stack, odd.

        Returns:
            List of `slices - 1` entries, by position: `(index, distance_mm)`, or `None` where there is no neighbour, as
            where the headers give only the order of the slices.
        """
        if self.ruler == "instance_number":
            return [None] * (slices - 1)
        return neighbours_of(index, [file.position_mm for file in self.slices], slices)


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
            slices, left_out = read_slice_headers(file)
            headers += slices
            refusals += left_out
        except DicomError as error:
            refusals.append(Refusal(file, error.reason, error.failure or not path.is_dir()))
    headers, duplicates = _without_duplicates(headers)
    series = list(volumes.values())
    for group in _groups(headers):
        found, unplaced = _sorted_series(group)
        refusals += unplaced
        if found.slices:
            series.append(found)
    return _labelled(series), sorted(refusals + duplicates, key=lambda refusal: str(refusal.path))


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


def _groups(headers):
    by_series = defaultdict(list)
    for header in headers:
        of_series = by_series[header.identity.study_uid, header.identity.series_uid, header.identity.patient]
        for group in of_series:
            if _same_geometry(group[0], header):
                group.append(header)
                break
        else:
            of_series.append([header])
    return [group for key in sorted(by_series) for group in by_series[key]]


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


def _same_geometry(a, b):
    return (
        (a.rows, a.columns, len(a.orientation)) == (b.rows, b.columns, len(b.orientation))
        and np.allclose(a.orientation, b.orientation, rtol=0, atol=_SAME_DIRECTION)
        and np.allclose(a.pixel_spacing_mm, b.pixel_spacing_mm, rtol=0, atol=_SAME_SPACING_MM)
    )


def _sorted_series(group):
    """A `Series` and the refusals of those slices that have no place in it."""
    positions = ("position_mm", "slice_location_mm", "instance_number")
    # One ruler for the whole group; the coarser ones only when no slice has a better one.
    ruler = next(
        (name for name in positions if any(getattr(header, name) is not None for header in group)), None
    )
    placed, unplaced = [], []
    for header in group:
        (unplaced if ruler is None or getattr(header, ruler) is None else placed).append(header)
    nowhere = "has no ImagePositionPatient, SliceLocation or InstanceNumber to sort by"
    refusals = [Refusal(header.path, of_frame(header.frame, nowhere), True) for header in unplaced]
    placed.sort(
        key=lambda header: (
            getattr(header, ruler),
            header.acquisition_number,
            header.instance_number or 0,
            header.identity.slice_uid,
        )
    )
    head = placed[0] if placed else group[0]
    description, kernel, manufacturer = head.labels
    series = Series(
        uid=head.identity.series_uid,
        study_uid=head.identity.study_uid,
        patient=head.identity.patient,
        patient_id=head.identity.patient_id,
        frame_of_reference_uid=head.frame_of_reference_uid,
        label="",
        description=description,
        kernel=kernel,
        manufacturer=manufacturer,
        rows=head.rows,
        columns=head.columns,
        pixel_spacing_mm=head.pixel_spacing_mm,
        thickness_mm=head.thickness_mm,
        slices=tuple(
            SliceFile(
                header.path,
                float(getattr(header, ruler)),
                header.identity.slice_uid,
                header.frame,
                header.thickness_mm,
                header.acquisition_number,
            )
            for header in placed
        ),
        denoised=head.denoised,
        simulated=head.simulated,
        outside=tuple(dict.fromkeys(reason for header in placed for reason in header.outside)),
        ruler=ruler or "instance_number",
    )
    return series, refusals
