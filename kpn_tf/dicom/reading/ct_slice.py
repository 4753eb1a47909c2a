"""One DICOM file, one frame of it, or one slice of a volume file -> one slice in HU."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from kpn_tf.dicom.attributes import numbers
from kpn_tf.dicom.identity import Identity, identity
from kpn_tf.dicom.reading.content import opened
from kpn_tf.dicom.reading.decoding import decode_stored
from kpn_tf.dicom.reading.header import (
    PixelHeader,
    check_is_ct_slice,
    multi_frame_name,
    pixel_header,
    read_dataset,
    set_transfer_syntax,
)
from kpn_tf.dicom.reading.multi_frame import multi_frame
from kpn_tf.dicom.reading.padding import padding_mask
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.reading.volume_file import open_volume
from kpn_tf.dicom.reading.volume_format import volume_suffix
from kpn_tf.dicom.refusal import DicomError, of_frame


@dataclass
class CTSlice:
    """A CT slice in memory.

    Args:
        dataset: As read, pixel data included. Nothing in this package alters it. That of a frame has the
            attributes which a single-frame slice would have, and SOPClassUID and SOPInstanceUID of its object; that of
            a slice of a volume file its place and its scale, and nothing else.
        slice_hu: float32 `(H, W)` in HU.
        padding: bool `(H, W)`, True outside of the field of view; `slice_hu` holds the fill value there.
        pixels: What the header says about the pixels, a `kpn_tf.dicom.reading.header.PixelHeader`; None in a volume
            file.
        identity: What it is and belongs to, a `kpn_tf.dicom.identity.Identity`; None in a volume file.
        frame: Its number in an Enhanced CT object or a volume file, from 1; None where the file is the slice.
    """

    dataset: pydicom.Dataset
    slice_hu: np.ndarray
    padding: np.ndarray
    pixels: PixelHeader | None
    identity: Identity | None
    frame: int | None = None


def read_slice(path, frame=None):
    """Reads a CT image, one frame of an Enhanced CT object, or one slice of a volume file.

    Args:
        path: A DICOM file, any transfer syntax for which a decoder exists; or NIfTI, NRRD or MetaImage.
        frame: Number of the frame or slice, from 1, as in `SliceFile`; None for a file that is one slice.

    Returns:
        A `CTSlice`.

    Raises:
        DicomError: If the file is not a CT slice or cannot be read right.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> ct = read_slice(get_testdata_file("CT_small.dcm"))
        >>> ct.slice_hu.shape, ct.slice_hu.dtype.name, float(ct.slice_hu.min())
        ((128, 128), 'float32', -896.0)

    Source: DICOM PS3.3 C.8.2.1 (CT Image Module), C.7.6.3 (Image Pixel Module), C.7.6.16 (frames).
    """
    path = Path(path)
    if volume_suffix(path):
        return _of_volume(open_volume(path), frame)
    try:
        dataset = single_frame(path) if frame is None else multi_frame(path).read(frame)
        return _decoded(path, dataset, frame)
    except DicomError as error:
        if frame is None:
            raise
        raise DicomError(path, of_frame(frame, error.reason), failure=error.failure) from error


def single_frame(path):
    """The dataset of a file that is one slice, its pixels as they are."""
    with opened(path) as content:
        dataset = read_dataset(path, content)
        if "PixelData" not in dataset:
            # Of compressed data without an end pydicom returns nothing at all: the header alone says more.
            dataset = read_dataset(path, content, stop_before_pixels=True)
    if name := multi_frame_name(dataset):
        raise DicomError(path, f"is {name} (multi-frame), whose frames are read one by one")
    return dataset


def _decoded(path, dataset, frame):
    check_is_ct_slice(path, dataset)
    whose = identity(path, dataset, frame)
    pixels = pixel_header(path, dataset)
    if "PixelData" not in dataset:
        raise DicomError(path, "has no pixel data, or is cut off inside it")
    set_transfer_syntax(dataset)
    try:
        with quiet_warnings:
            stored = decode_stored(dataset, pixels)  # (H, W) int16 or uint16
    except Exception as error:
        # Decoders raise whatever they like on damaged data; their text is about pixels, not the patient.
        # A line that ends with a colon is the heading of the next.
        lines = str(error).splitlines() or [type(error).__name__]
        what = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
        raise DicomError(path, f"has pixel data that cannot be decoded: {what}") from error
    slice_hu = (stored * pixels.slope + pixels.intercept_hu).astype(np.float32)
    padding = padding_mask(stored, slice_hu, _declared_padding(dataset, stored.dtype))
    return CTSlice(dataset, slice_hu, padding, pixels, whose, frame)


def _of_volume(volume, frame):
    if frame is None or not 0 < frame <= len(volume.stored):
        asked = "no number of one" if frame is None else f"a request for number {frame}"
        raise DicomError(volume.path, f"has {len(volume.stored)} slices. Received: {asked}")
    dataset = pydicom.Dataset()
    # Nine digits: decimal strings hold sixteen characters.
    for keyword, values in (
        ("ImagePositionPatient", volume.corner_of(frame - 1)),
        ("ImageOrientationPatient", volume.orientation),
        ("PixelSpacing", volume.spacing_mm[1:]),
    ):
        setattr(dataset, keyword, [f"{value:.9g}" for value in values])
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    stored = volume.stored[frame - 1]
    slice_hu = stored.astype(np.float32, order="C")
    return CTSlice(dataset, slice_hu, padding_mask(stored, slice_hu, None), None, None, frame)


def _declared_padding(dataset, dtype):
    values = [*numbers(dataset, "PixelPaddingValue")[:1]]
    if not values:
        return None
    values += numbers(dataset, "PixelPaddingRangeLimit")[:1]
    # Often written with the wrong sign (63536 for -2000): the bits are right, the VR is not.
    bits = np.array([int(value) & 0xFFFF for value in values], np.uint16).view(dtype)
    return int(bits.min()), int(bits.max())
