"""A dataset -> a file, atomically, and never over another one."""

import os
from pathlib import Path

from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.reading.header import read_dataset
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.dicom.transcoding import transcoded, write_elements
from kpn_tf.files import creating


class OutputExistsError(DicomError, FileExistsError):
    """There is a file already where one was to be written."""


def write_slice(dataset, path):
    """Writes a dataset so that `path` either holds all of it or does not exist.

    The file is readable by its owner alone (mode 0600): it holds patient data.

    Args:
        dataset: As returned by `derive_slice`.
        path: Where to. The folder must exist.

    Raises:
        OutputExistsError: If `path` exists, whatever it is. It is left as it is.
        DicomError: If the dataset cannot be encoded or the folder cannot be written to.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise _exists(path)
    try:
        with creating(path) as part, open(part, "wb") as file, quiet_warnings:
            write_file(file, dataset)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise DicomError(path, f"cannot be written: {error.strerror}") from error
    except Exception as error:
        # pydicom quotes the value it could not encode; its type is enough.
        raise DicomError(path, f"cannot be encoded as DICOM ({type(error).__name__})") from None


def write_file(file, dataset):
    """Writes a dataset in a little-endian transfer syntax that is not deflated, with its meta header.

    Args:
        file: Binary file.
        dataset: With `file_meta`; in whatever encoding it was read.
    """
    implicit = dataset.file_meta.TransferSyntaxUID.is_implicit_VR
    file.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(DicomFileLike(file), dataset.file_meta)
    if dataset.original_encoding != (implicit, True):
        dataset = transcoded(dataset, implicit=implicit)
    write_elements(file, dataset, implicit=implicit)


def _exists(path):
    return OutputExistsError(path, "exists already and is never overwritten; choose another output folder")


def is_written(path, series_uid):
    """Whether a file is a whole slice of a derived series, as `write_slice` leaves it.

    Args:
        path: A `pathlib.Path`, named after the slice's SOPInstanceUID.
        series_uid: SeriesInstanceUID of the derived series.
    """
    try:
        dataset = read_dataset(path)
    except DicomError:
        return False
    rows, columns = (sum(numbers(dataset, name)) for name in ("Rows", "Columns"))
    return (text(dataset, "SOPInstanceUID"), text(dataset, "SeriesInstanceUID")) == (
        path.stem,
        series_uid,
    ) and (0 < 2 * rows * columns == len(dataset.get("PixelData") or b""))
