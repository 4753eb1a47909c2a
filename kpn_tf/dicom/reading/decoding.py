"""Pixel data -> stored integers, whatever the transfer syntax.

JPEG-LS goes to CharLS (pyjpegls), JPEG 2000 to OpenJPEG (pylibjpeg-openjpeg), JPEG lossless and 12-bit JPEG to GDCM:
`decoder_process`.
"""

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder

from kpn_tf.dicom.attributes import numbers
from kpn_tf.dicom.reading.codestream import frame_size
from kpn_tf.dicom.reading.decoder_process import decode

_NATIVE = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
}
_CODESTREAM = {
    uid.JPEGExtended12Bit,
    "1.2.840.10008.1.2.4.55",  # JPEG full progression, retired in 2001 and still in archives
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
}

# Bytes of RLE data that cannot decode to more than 256 MB.
_LONG_RLE = 4_000_000

# Transfer syntaxes that `decode_stored` reads.
DECODABLE = frozenset(map(str, (*_NATIVE, uid.RLELossless, *_CODESTREAM)))


def is_native(transfer_syntax):
    """Whether pixels follow each other uncompressed, perhaps inside of a file that is deflated as a whole."""
    return transfer_syntax in _NATIVE


def is_uncompressed(transfer_syntax):
    """Whether files in this transfer syntax are at least as large as their pixels."""
    return transfer_syntax in _NATIVE and transfer_syntax != uid.DeflatedExplicitVRLittleEndian


def decode_stored(dataset, pixels):
    """Decodes the pixel data of one slice.

    Args:
        dataset: With pixel data and `file_meta.TransferSyntaxUID`.
        pixels: Its `PixelHeader`.

    Returns:
        Stored values, `(rows, columns)`, int16 or uint16, native byte order, within `bits_stored`.

    Raises:
        ValueError: If the data is damaged, cut off or contradicts the header.
    """
    stored = stored_values(dataset, pixels)
    return _within_bits_stored(stored, pixels, has_embedded_overlay(dataset))


def stored_values(dataset, pixels):
    """As `decode_stored`, with whatever is in the bits above `bits_stored`."""
    syntax = dataset.file_meta.TransferSyntaxUID
    alone = _pixels_alone(dataset, pixels)
    if syntax in _NATIVE:
        # The decoder's own correction wraps values that do not fit into BitsStored; see _within_bits_stored.
        stored, _ = get_decoder(syntax).as_array(alone, correct_unused_bits=False)
    elif syntax == uid.RLELossless:
        _check_rle(
            next(generate_frames(dataset.PixelData, number_of_frames=1)), 2 * pixels.rows * pixels.columns
        )
        stored, _ = get_decoder(syntax).as_array(alone, decoding_plugin="pydicom", correct_unused_bits=False)
    else:
        frame = next(generate_frames(alone.PixelData, number_of_frames=1))
        size = frame_size(frame)
        if (size.rows, size.columns, size.samples) != (pixels.rows, pixels.columns, 1):
            raise ValueError(
                f"the compressed data is {size.rows} x {size.columns} x {size.samples}, "
                f"the header says {pixels.rows} x {pixels.columns} x 1"
            )
        if size.precision > 16:
            raise ValueError(f"the compressed data has {size.precision} bits per pixel")
        stored = _decoded(frame, syntax, pixels, size.precision)
    if stored.shape != (pixels.rows, pixels.columns):
        raise ValueError(f"the decoded shape is {stored.shape}, not {pixels.rows, pixels.columns}")
    return stored.astype(np.int16 if pixels.signed else np.uint16)  # (H, W), native byte order


def _pixels_alone(dataset, pixels):
    """The pixel data, described by what has been checked: where the header says nothing, one sample per pixel."""
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.set_original_encoding(*dataset.original_encoding)
    alone.Rows, alone.Columns = pixels.rows, pixels.columns
    alone.SamplesPerPixel, alone.PhotometricInterpretation = 1, "MONOCHROME2"
    alone.BitsAllocated, alone.BitsStored, alone.HighBit = 16, pixels.bits_stored, pixels.bits_stored - 1
    alone.PixelRepresentation = int(pixels.signed)
    alone["PixelData"] = dataset.get_item("PixelData")
    return alone


def _check_rle(frame, most):
    """Refuses what would decode to much more than `most` bytes, of which two can become 128 (PS3.5 G.3)."""
    # As it is of no consequence in a slice of usual size, and takes time.
    if len(frame) < _LONG_RLE:
        return
    at, size = 64, 0
    while at < len(frame):
        control = frame[at]
        size += control + 1 if control < 128 else 257 - control
        at += control + 2 if control < 128 else 2
        if size > 2 * most:
            raise ValueError("the compressed data is longer than its pixels")


def has_embedded_overlay(dataset):
    """Whether an overlay sits in the unused high bits of the pixels (retired in 2004; PS3.5 8.1.2)."""
    return any(any(numbers(dataset, (group, 0x0102))) for group in range(0x6000, 0x6020, 2))


def _decoded(frame, syntax, pixels, precision):
    decoded = decode(frame, str(syntax), pixels.rows, pixels.columns, precision)
    stored = np.frombuffer(decoded, "<u2" if precision > 8 else "u1").astype(np.uint16)
    if stored.size != pixels.rows * pixels.columns:
        raise ValueError("the decoder returned an image of another size")
    stored = stored.reshape(pixels.rows, pixels.columns)
    # The header says whether values are signed: JPEG and JPEG-LS know no sign, and JPEG 2000 may say something else.
    return _sign_extended(stored, precision) if pixels.signed else stored & np.uint16((1 << precision) - 1)


def _sign_extended(stored, bits):
    unused = 16 - bits
    return (stored.astype(np.uint16) << unused).view(np.int16) >> unused


def _within_bits_stored(stored, pixels, overlay):
    """Clears the unused high bits where the standard says what they are, and refuses where it does not.

    Right values leave them as a sign extension. Zeros are allowed too (PS3.5 8.1.1), and so is an overlay.
    Anything else means that BitsStored is wrong, and both readings (cut or keep) would be a guess: keeping
    turns foreign bits into thousands of HU, cutting wraps -3024 HU of padding into bone.
    """
    lowest, highest = pixels.stored_range
    if lowest <= stored.min() and stored.max() <= highest:
        return stored
    # After cutting, a signed value whose unused bits were zero is negative; its raw form was not.
    unused_are_zero = pixels.signed and stored.min() >= 0 and stored.max() < 1 << pixels.bits_stored
    if not (overlay or unused_are_zero):
        raise ValueError(
            f"pixel values need more than the {pixels.bits_stored} bits that the header declares"
        )
    if pixels.signed:
        return _sign_extended(stored.view(np.uint16), pixels.bits_stored)
    return stored & np.uint16(highest)
