"""The bytes of a DICOM file as its elements lie in them: those on disk, or what these inflate to."""

import contextlib
import io
import zlib

from pydicom.filereader import _read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from kpn_tf.dicom.reading.bounded import BoundedFile
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError

# 480 slices of 512 x 512. One kB can inflate to a megabyte, and all of it is in memory at once.
LARGEST_INFLATED = 256_000_000

_META_AT = 132

_BLOCK = 1 << 20


class Inflated(io.BytesIO):
    """What a deflated file inflates to, behind its meta header, which calls it explicit little endian."""


@contextlib.contextmanager
def opened(path, largest=LARGEST_INFLATED):
    """Opens a file for reading; a deflated one is inflated.

    Args:
        path: The file.
        largest: Most bytes that it may inflate to.

    Yields:
        A seekable binary file.

    Raises:
        DicomError: If it cannot be opened, or cannot be inflated.
    """
    try:
        with open(path, "rb") as file:
            start = _deflated_from(file)
            file.seek(0)
            yield _inflated(path, file, start, largest) if start else file
    except OSError as error:
        raise DicomError(path, f"cannot be opened ({type(error).__name__})") from error


def _deflated_from(file):
    """Where the deflated part of a file begins; 0 if it has none."""
    has_preamble = file.read(_META_AT)[128:] == b"DICM"
    file.seek(_META_AT if has_preamble else 0)
    try:
        with quiet_warnings:
            meta = _read_file_meta_info(BoundedFile(file))
            deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except Exception:
        # What is wrong with it is told by whoever reads the rest.
        return 0
    return file.tell() if deflated else 0


def _inflated(path, file, start, largest):
    uid = DeflatedExplicitVRLittleEndian.encode()
    meta = file.read(start).replace(uid, ExplicitVRLittleEndian.encode().ljust(len(uid), b"\0"))
    content = Inflated()
    content.write(meta)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not inflater.eof and (deflated := file.read(_BLOCK)):
            while deflated and not inflater.eof:
                content.write(inflater.decompress(deflated, _BLOCK))
                if content.tell() > start + largest:
                    raise DicomError(path, f"inflates to more than {largest / 1e6:g} MB")
                deflated = inflater.unconsumed_tail
    except zlib.error:
        raise DicomError(path, "has deflated data that is damaged") from None
    if not inflater.eof:
        raise DicomError(path, "is cut off inside its deflated data")
    content.seek(0)
    return content
