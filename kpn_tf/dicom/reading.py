"""One DICOM file -> one slice in HU."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from kpn_tf.dicom.attributes import numbers
from kpn_tf.dicom.decoding import decode_stored
from kpn_tf.dicom.header import check_is_ct_slice, pixel_header, read_dataset
from kpn_tf.dicom.identity import identity
from kpn_tf.dicom.padding import padding_mask
from kpn_tf.dicom.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError


@dataclass
class CTSlice:
    """A CT slice in memory.

    Args:
        dataset: As read, pixel data included. Nothing in this package alters it.
        slice_hu: float32 `(H, W)` in HU.
        padding: bool `(H, W)`, True outside of the field of view; `slice_hu` holds the fill value there.
    """

    dataset: pydicom.Dataset
    slice_hu: np.ndarray
    padding: np.ndarray


def read_slice(path):
    """Reads a single-frame CT image.

    Args:
        path: A DICOM file, any transfer syntax for which a decoder exists.

    Returns:
        A `CTSlice`.

    Raises:
        DicomError: If the file is not a CT slice or cannot be read right.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> ct = read_slice(get_testdata_file("CT_small.dcm"))
        >>> ct.slice_hu.shape, ct.slice_hu.dtype.name, float(ct.slice_hu.min())
        ((128, 128), 'float32', -896.0)

    Source: DICOM PS3.3 C.8.2.1 (CT Image Module), C.7.6.3 (Image Pixel Module).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DicomError(path, f"cannot be opened ({type(error).__name__})") from error
    # From memory: a damaged element length then reads what there is instead of allocating what it claims.
    dataset = read_dataset(path, io.BytesIO(content))
    if "PixelData" not in dataset:
        # Of compressed data without an end pydicom returns nothing at all: the header alone says more.
        dataset = read_dataset(path, io.BytesIO(content), stop_before_pixels=True)
    dataset.filename, dataset.buffer = str(path), None
    check_is_ct_slice(path, dataset)
    identity(path, dataset)
    pixels = pixel_header(path, dataset)
    if "PixelData" not in dataset:
        raise DicomError(path, "has no pixel data, or is cut off inside it")
    _set_transfer_syntax(dataset)
    try:
        with quiet_warnings:
            stored = decode_stored(dataset, pixels)  # (H, W) int16 or uint16
    except Exception as error:
        # Decoders raise whatever they like on damaged data; their text is about pixels, not the patient.
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DicomError(path, f"has pixel data that cannot be decoded: {what}") from error
    slice_hu = (stored * pixels.slope + pixels.intercept_hu).astype(np.float32)
    return CTSlice(
        dataset, slice_hu, padding_mask(stored, slice_hu, _declared_padding(dataset, stored.dtype))
    )


def _set_transfer_syntax(dataset):
    """Files without a meta header have none: pydicom found out by looking."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _declared_padding(dataset, dtype):
    values = [*numbers(dataset, "PixelPaddingValue")[:1]]
    if not values:
        return None
    values += numbers(dataset, "PixelPaddingRangeLimit")[:1]
    # Often written with the wrong sign (63536 for -2000): the bits are right, the VR is not.
    bits = np.array([int(value) & 0xFFFF for value in values], np.uint16).view(dtype)
    return int(bits.min()), int(bits.max())
