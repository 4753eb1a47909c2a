"""What the node needs to know of an object that has just come, read and checked in its header."""

import mmap
import re
import zlib
from dataclasses import dataclass

from pydicom import uid

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.identity import IDENTITY_TAGS, identity
from kpn_tf.dicom.reading.header import multi_frame_name, read_dataset
from kpn_tf.dicom.reading.multi_frame import MultiFrame
from kpn_tf.dicom.reading.slice_header import slice_position
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
    "ImageType",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    *_COUNTS,
]

# PS3.5 9.1, but for leading zeros, which occur.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64

# PS3.5 7.5.2 and A.4: what ends encapsulated pixel data. Some writers pad what follows.
_SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_TAIL = 65536

# (0002,0000), the first element of a file, says where the data set begins (PS3.10 7.1).
_GROUP_LENGTH_END = 144

_BLOCK = 1 << 20

# The headers of 2,000 frames, with everything that is ever said of one.
_LARGEST_HEADER = 64_000_000


@dataclass(frozen=True)
class Arrival:
    """An object that has come: a slice, or many.

    Args:
        sop_uid: SOP Instance UID.
        sop_class: SOP Class UID.
        syntax: Transfer Syntax UID.
        series_key: Tells its series from all others: made from patient, study and series.
        traits: `Traits` of its series.
        processed: Whether it was derived from other images, by this package or anybody else.
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


def read_arrival(path, syntax, calling_ae_title, *, largest):
    """Reads a stored object.

    Args:
        path: The file.
        syntax: The transfer syntax that was agreed on with the sender; the file is written in it.
        calling_ae_title: Who sent it.
        largest: Most bytes that a deflated object may inflate to.

    Returns:
        An `Arrival`.

    Raises:
        DicomError: If it is damaged, cut off, or has no identity.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            _check_inflates(path, content, largest)
        # From a map: an element that claims 4 GB then reads what there is instead of allocating what it claims.
        dataset = read_dataset(path, content, stop_before_pixels=True, specific_tags=_TAGS)
        if syntax != uid.DeflatedExplicitVRLittleEndian:
            _check_whole(path, content, *dataset.original_encoding)
    uids = identity(path, dataset)
    for value in (uids.sop_instance_uid, uids.series_uid, uids.study_uid):
        if len(value) > _LONGEST_UID or not _UID.fullmatch(value):
            raise DicomError(path, "has a UID that is none")
    slices = _slices(path, dataset)
    counts = [
        int(values[0]) for name in _COUNTS if (values := numbers(dataset, name)) and 0 < values[0] < _MOST
    ]
    image_type = text(slices[0], "ImageType").upper().split("\\")
    thickness_mm = numbers(slices[0], "SliceThickness")
    return Arrival(
        sop_uid=uids.sop_instance_uid,
        # Anonymisation empties it in some archives; the association has said what it is.
        sop_class=text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID"),
        syntax=str(syntax),
        series_key=uids.series_key,
        traits=Traits(
            calling_ae_title,
            text(dataset, "Modality"),
            text(dataset, "SeriesDescription"),
            text(slices[0], "ConvolutionKernel"),
            thickness_mm[0] if thickness_mm else None,
        ),
        processed=image_type[0].strip() == "DERIVED",
        places=tuple(map(_place, slices)),
        expected=counts[0] if counts else 0,
    )


def _slices(path, dataset):
    """The headers of the slices in a file: its own, or those of its frames."""
    if not multi_frame_name(dataset):
        return [dataset]
    # Not `multi_frame`, which remembers headers: the file is about to move.
    frames = MultiFrame(path)
    return [frames.header(number) for number in range(1, frames.frames + 1)]


def _place(dataset):
    orientation, position_mm = slice_position(dataset)
    if position_mm is not None and abs(position_mm) > _FARTHEST_MM:
        position_mm = None
    return " ".join(f"{cosine:.3f}" for cosine in orientation), position_mm


def content_start(file):
    """Where the data set of a file with a meta header begins; `file` is opened for reading, in bytes."""
    file.seek(_GROUP_LENGTH_END - 4)
    return _GROUP_LENGTH_END + int.from_bytes(file.read(4), "little")


def _check_whole(path, content, implicit, little):
    """Refuses pixel data that ends before its end."""
    # pydicom has stopped at the tag of the pixel data.
    start = content.tell()
    if start > _LARGEST_HEADER:
        raise DicomError(
            path, f"has a header of {start / 1e6:.0f} MB, and {_LARGEST_HEADER / 1e6:.0f} are allowed"
        )
    head = content[start : start + 12]
    if len(head) < 12 or head[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise DicomError(path, "has no pixel data, or is cut off before it")
    length = int.from_bytes(head[4:8] if implicit else head[8:12], "little" if little else "big")
    if length == 0xFFFFFFFF:
        if content.rfind(_SEQUENCE_DELIMITER, max(start, len(content) - _TAIL)) < 0:
            raise DicomError(path, "is cut off inside its pixel data")
        return
    if start + (8 if implicit else 12) + length > len(content):
        raise DicomError(path, "is cut off inside its pixel data")


def _check_inflates(path, content, largest):
    """Refuses a bomb: a few kB of deflated data can hold gigabytes."""
    inflater, size, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, content[content_start(content) :]
    try:
        while not inflater.eof and left:
            size += len(inflater.decompress(left, _BLOCK))
            left = inflater.unconsumed_tail
            if size > largest:
                raise DicomError(path, f"inflates to more than {largest / 1e6:g} MB")
    except zlib.error:
        raise DicomError(path, "has deflated data that is damaged") from None
    if not inflater.eof:
        raise DicomError(path, "is cut off inside its deflated data")
