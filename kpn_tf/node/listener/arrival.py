"""What the node needs to know of an object that has just come, read and checked in its header."""

import itertools
import re
from dataclasses import dataclass

from pydicom import uid

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.identity import IDENTITY_TAGS, identity
from kpn_tf.dicom.reading.content import LARGEST_INFLATED, opened
from kpn_tf.dicom.reading.header import multi_frame_name, read_dataset
from kpn_tf.dicom.reading.multi_frame import MultiFrame
from kpn_tf.dicom.reading.slice_header import own_models, slice_position
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node.rule import Traits

# How many there are: of the series (PS3.4 C.6.1.1.5, written by some senders), or of the acquisition.
_COUNTS = ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition")

_MOST = 100_000

# No table moves farther; a header that says so is damaged.
_FARTHEST_MM = 10_000.0

_TAGS = [
    *IDENTITY_TAGS,
    "SOPClassUID",
    "Modality",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "ContributingEquipmentSequence",
    *_COUNTS,
]

# PS3.5 9.1, but for leading zeros, which occur.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64

# Of what rules look at, with several values of a kernel; the standard has 64 letters for each (PS3.5 6.2). The journal
# keeps it for a year.
_LONGEST_TEXT = 1024

# PS3.5 7.5.2 and A.4: what ends encapsulated pixel data. Some writers pad what follows.
_SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_TAIL = 65536

# (0002,0000), the first element of a file, says where the data set begins (PS3.10 7.1).
_GROUP_LENGTH_END = 144

# What may be built of a slice in the node's own process, in bytes of memory: a tenth of a second.
_LARGEST_HEADER = 10_000_000


@dataclass(frozen=True)
class Arrival:
    """An object that has come: a slice, or many.

    Args:
        sop_uid: SOP Instance UID.
        sop_class: SOP Class UID.
        syntax: Transfer Syntax UID.
        series_key: Tells its series from all others: made from patient, study and series.
        traits: `Traits` of its series.
        processed: Whether this package denoised it or lowered its dose.
        places: For each slice in it, that is one, or one for each frame: its orientation as text, and its position
            along the slice normal in mm, or `None`.
        expected: How many objects its series has, as far as the header says; else 0.
    """

    sop_uid: str
    sop_class: str
    syntax: str
    series_key: str
    traits: Traits
    processed: bool
    places: tuple[tuple[str, float | None], ...]
    expected: int


def read_arrival(path, syntax, calling_ae_title, *, largest, quick=False):
    """Reads a stored object.

    Args:
        path: The file.
        syntax: The transfer syntax that was agreed on with the sender; the file is written in it.
        calling_ae_title: Who sent it.
        largest: Most bytes that a deflated object may inflate to.
        quick: Whether to leave objects alone that take long: those with frames, and deflated ones.

    Returns:
        An `Arrival`, or None where it is left alone.

    Raises:
        DicomError: If it is damaged, cut off, or has no identity.
    """
    deflated = syntax == uid.DeflatedExplicitVRLittleEndian
    if quick and deflated:
        return None
    with opened(path, min(largest, LARGEST_INFLATED)) as content:
        dataset = read_dataset(
            path, content, stop_before_pixels=True, specific_tags=_TAGS, largest=_LARGEST_HEADER
        )
        pixels_at = content.tell()
        if multi_frame_name(dataset):
            if quick:
                return None
            # Not `multi_frame`, which remembers headers: the file is about to move.
            frames = MultiFrame(path)
            pixels_at = frames.pixels_at
            slices = map(frames.header, range(1, frames.frames + 1))
        else:
            slices = iter([dataset])
        if not deflated:
            _check_whole(path, content, pixels_at, *dataset.original_encoding)
    uids = identity(path, dataset)
    for value in (uids.sop_instance_uid, uids.series_uid, uids.study_uid):
        if len(value) > _LONGEST_UID or not _UID.fullmatch(value):
            raise DicomError(path, "has a UID that is none")
    first = next(slices)
    counts = [
        int(values[0]) for name in _COUNTS if (values := numbers(dataset, name)) and 0 < values[0] < _MOST
    ]
    thickness_mm = numbers(first, "SliceThickness")
    return Arrival(
        sop_uid=uids.sop_instance_uid,
        # Anonymisation empties it in some archives; the association has said what it is.
        sop_class=text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"),
        syntax=str(syntax),
        series_key=uids.series_key,
        traits=Traits(
            calling_ae_title,
            text(dataset, "Modality")[:_LONGEST_TEXT],
            text(dataset, "SeriesDescription")[:_LONGEST_TEXT],
            text(first, "ConvolutionKernel")[:_LONGEST_TEXT],
            thickness_mm[0] if thickness_mm else None,
        ),
        processed=bool(own_models(first)),
        places=tuple(map(_place, itertools.chain([first], slices))),
        expected=counts[0] if counts else 0,
    )


def _place(dataset):
    orientation, position_mm = slice_position(dataset)
    if position_mm is not None and abs(position_mm) > _FARTHEST_MM:
        position_mm = None
    return " ".join(f"{cosine:.3f}" for cosine in orientation), position_mm


def content_start(file):
    """Where the data set of a file with a meta header begins; `file` is opened for reading, in bytes."""
    file.seek(_GROUP_LENGTH_END - 4)
    return _GROUP_LENGTH_END + int.from_bytes(file.read(4), "little")


def _check_whole(path, content, start, implicit, little):
    """Refuses pixel data that ends before its end; `start` is where their element begins."""
    size = content.seek(0, 2)
    content.seek(start)
    head = content.read(12)
    if len(head) < 12 or head[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise DicomError(path, "has no pixel data, or is cut off before it")
    length = int.from_bytes(head[4:8] if implicit else head[8:12], "little" if little else "big")
    if length == 0xFFFFFFFF:
        content.seek(max(start, size - _TAIL))
        if _SEQUENCE_DELIMITER not in content.read(_TAIL):
            raise DicomError(path, "is cut off inside its pixel data")
        return
    if start + (8 if implicit else 12) + length > size:
        raise DicomError(path, "is cut off inside its pixel data")
