"""Is this file a CT slice whose pixel values can be turned into HU? Decided from the header alone."""

from dataclasses import dataclass

from pydicom._uid_dict import UID_dictionary
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from kpn_tf.dicom.attributes import number, text, whole_number
from kpn_tf.dicom.reading.bounded import LARGEST_HEADER, MOST_PIXELS, BoundedFile
from kpn_tf.dicom.reading.content import Inflated, opened
from kpn_tf.dicom.reading.decoding import DECODABLE
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError

# PS3.4 table B.5-1: CT that comes as many frames in one object.
_MULTI_FRAME_CT = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}

# All that slices can be read from.
CT_CLASSES = (CTImageStorage, *map(UID, _MULTI_FRAME_CT))

# PS3.3 C.8.16.1.4, value 4 of ImageType: what is computed from other slices and has another quantity or none. "US"
# is the only RescaleType that such maps had when Enhanced CT was new.
_MAPS = {"DIVISION", "MULTIPLICATION", "MTT", "RCBF", "RCBV", "TTP", "STD_DEVIATION", "T_TEST", "Z_SCORE"}

# Likewise, and as vendors write it: the largest or smallest value along a ray, or a picture of a surface.
_PROJECTIONS = {
    *("MIP", "MINIP", "MIN IP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE"),
    *("VOLREN", "VRT", "VR", "SSD", "VOLUME_RENDER", "SURFACE_RENDER"),
}

# PS3.3 C.11.1.1.2: what is attenuation. Every other quantity has a name of its own, and vendors have more of them than
# the standard. "US" (unspecified) is written by widespread converters for plain HU: `scale.other_scale` looks.
_HU_TYPES = ("", "HU", "HU_MOD", "US")

# RFC 1740, appendix B. Its name ends as that of the file it belongs to.
_APPLE_DOUBLE = b"\x00\x05\x16\x07"

# Metal has 30,000 in scans of extended range; what says so much more is damaged, and squares of it overflow.
LARGEST_HU = 1e9

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class PixelHeader:
    """How the stored integers are laid out and what they mean; exists only if they can be read.

    Args:
        rows: Rows of the slice.
        columns: Columns of the slice.
        bits_stored: 12 to 16.
        signed: Two's complement or not.
        slope: HU per stored unit.
        intercept_hu: HU of stored value 0.
    """

    rows: int
    columns: int
    bits_stored: int
    signed: bool
    slope: float
    intercept_hu: float

    @property
    def stored_range(self):
        """Smallest and largest integer that `bits_stored` bits hold."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def read_dataset(path, content=None, *, stop_before_pixels=False, specific_tags=(), largest=LARGEST_HEADER):
    """Parses a DICOM file, with or without the 128-byte preamble, up to the end of its pixels at most.

    Args:
        path: The file, for messages, and to read from if `content` is None.
        content: As `kpn_tf.dicom.reading.content.opened` gives it, or None.
        stop_before_pixels: Whether the pixels are left out; `content` is at their element then.
        specific_tags: Keywords of the attributes to read, with `stop_before_pixels`; none for all. What is said of
            single frames is not read then.
        largest: Most bytes of memory for what stands before the pixels.

    Returns:
        The dataset.

    Raises:
        DicomError: If it is not DICOM, damaged or too large.
    """
    if content is None:
        with opened(path) as content:
            return read_dataset(
                path,
                content,
                stop_before_pixels=stop_before_pixels,
                specific_tags=specific_tags,
                largest=largest,
            )
    content.seek(0)
    start = content.read(132)
    content.seek(0)
    if not start:
        raise DicomError(path, "is empty: copy it again", failure=_is_named_like_dicom(path))
    if start.startswith(_APPLE_DOUBLE):
        raise DicomError(path, "is an AppleDouble file, which macOS puts beside another", failure=False)
    has_preamble = start[128:] == b"DICM"
    # Files from before part 10 begin with group 0002 or 0008 itself, in either byte order.
    if not has_preamble and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        raise _not_dicom(path)
    bounded = BoundedFile(content, largest)
    stop_when = bounded.before_pixels if stop_before_pixels else bounded.behind_pixels
    if specific_tags:
        stop_when = bounded.before_frames
    try:
        with quiet_warnings:
            dataset = read_partial(
                bounded,
                stop_when,
                force=not has_preamble,
                specific_tags=[Tag(keyword) for keyword in specific_tags],
            )
    except Exception as error:
        if not (has_preamble or bounded.reason):
            raise _not_dicom(path) from None
        # Anything can come out of a damaged file. pydicom's text may quote values, and a chained exception
        # ends in logs with its text: only the type is passed on.
        reason = f"is damaged: its header cannot be parsed ({type(error).__name__})"
        raise DicomError(path, bounded.reason or reason) from None
    if bounded.reason:
        raise DicomError(path, bounded.reason)
    if isinstance(content, Inflated):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.filename, dataset.buffer = str(path), None
    return dataset


def _not_dicom(path):
    named = _is_named_like_dicom(path)
    return DicomError(
        path, "is not a DICOM file" + (" although it is named like one" if named else ""), failure=named
    )


def _is_named_like_dicom(path):
    return str(path).lower().endswith(_DICOM_SUFFIXES)


def set_transfer_syntax(dataset):
    """Completes the meta header of a file without one: pydicom found the transfer syntax by looking."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def multi_frame_name(dataset):
    """What kind of CT with many frames a dataset is, by its name in the standard; "" if it is none."""
    sop_class = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
    return _MULTI_FRAME_CT.get(sop_class, "")


def check_is_ct_slice(path, dataset):
    """Passes CT slices, frames of Enhanced CT among them, and refuses everything else by name.

    Raises:
        DicomError: With `failure=False` for what is no CT slice at all.
    """
    announced = text(dataset.file_meta, "MediaStorageSOPClassUID")
    sop_class = text(dataset, "SOPClassUID") or announced
    modality = text(dataset, "Modality")
    if sop_class == MediaStorageDirectoryStorage:
        raise DicomError(path, "is a DICOMDIR, an index of other files", failure=False)
    if not sop_class and modality in ("", "CT"):
        if dataset.preamble is None and not modality:
            raise _not_dicom(path)
        raise DicomError(path, "has no SOPClassUID: its kind is unknown")
    if sop_class != CTImageStorage and not multi_frame_name(dataset):
        # Cut off or overwritten inside its first attributes, a CT file no longer says so in the second place.
        name = _uid_name(sop_class, "of an unknown kind")
        raise DicomError(path, f"is {name}, not a CT slice", failure=announced == CTImageStorage)
    if modality not in ("", "CT"):
        raise DicomError(path, "is stored as CT but its Modality is not CT", failure=False)
    image_type = [part.strip().upper() for part in text(dataset, "ImageType").split("\\")]
    if "LOCALIZER" in image_type:
        raise DicomError(path, "is a localizer (scout view), not a slice", failure=False)
    if not _MAPS.isdisjoint(image_type[2:]):
        raise DicomError(path, "is a map computed from other slices, not a slice", failure=False)
    if not _PROJECTIONS.isdisjoint(image_type[2:]):
        raise DicomError(path, "is a projection of other slices, not a slice", failure=False)
    if text(dataset, "RescaleType").upper() not in _HU_TYPES:
        raise DicomError(
            path,
            "has a RescaleType other than HU, HU_MOD or US: it is a map of another quantity, not a slice",
            failure=False,
        )


def pixel_header(path, dataset):
    """Checks everything the header says about the pixels.

    Args:
        path: The file, for messages.
        dataset: Its dataset; the pixel data itself may be missing.

    Returns:
        A `PixelHeader`.

    Raises:
        DicomError: If an attribute is missing, contradictory, outside of what CT allows (PS3.3 C.8.2.1), or
            if no decoder exists for the transfer syntax.
    """
    rows, columns = (whole_number(path, dataset, name) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1 or rows * columns > MOST_PIXELS:
        raise DicomError(path, f"claims an absurd size of {rows} x {columns} pixels: the header is damaged")
    if number(path, dataset, "NumberOfFrames", default=1.0) != 1:
        raise DicomError(path, "holds several frames; expected a single-frame CT slice")
    if number(path, dataset, "SamplesPerPixel", default=1.0) != 1:
        raise DicomError(path, "holds colour; expected one sample per pixel")
    if text(dataset, "PhotometricInterpretation") not in ("", "MONOCHROME1", "MONOCHROME2"):
        raise DicomError(path, "has a PhotometricInterpretation that CT does not allow; expected MONOCHROME2")
    allocated = whole_number(path, dataset, "BitsAllocated")
    stored = whole_number(path, dataset, "BitsStored")
    if allocated != 16 or not 12 <= stored <= 16:
        raise DicomError(
            path,
            f"has {stored} bits stored in {allocated} allocated; expected 12 to 16 in 16 (PS3.3 C.8.2.1.1.4)",
        )
    if number(path, dataset, "HighBit", default=stored - 1.0) != stored - 1:
        raise DicomError(path, "has a HighBit that is not BitsStored - 1: the pixel layout is unknown")
    signed = whole_number(path, dataset, "PixelRepresentation")
    if signed not in (0, 1):
        raise DicomError(path, "has a PixelRepresentation that is neither 0 nor 1")
    syntax = text(dataset.file_meta, "TransferSyntaxUID")
    if syntax and syntax not in DECODABLE:
        name = _uid_name(syntax, "of an unknown kind")
        raise DicomError(path, f"has compression {name}, for which there is no decoder")
    slope, intercept_hu = _rescale(path, dataset)
    return PixelHeader(rows, columns, stored, bool(signed), slope, intercept_hu)


def _rescale(path, dataset):
    slope, intercept_hu = (number(path, dataset, name) for name in ("RescaleSlope", "RescaleIntercept"))
    # float32 carries HU everywhere: it must still tell neighbouring stored values apart.
    largest_hu = abs(intercept_hu) + 65535 * abs(slope)
    if not slope > 0 or slope < largest_hu * 2.0**-22 or largest_hu > LARGEST_HU:
        raise DicomError(path, f"has an unusable RescaleSlope of {slope:g}")
    return slope, intercept_hu


def _uid_name(value, unknown):
    return UID_dictionary[value][0] if value in UID_dictionary else unknown
