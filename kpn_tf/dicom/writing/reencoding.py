"""An object in another transfer syntax, for whoever does not take it as it is: uncompressed, its values as they are."""

from pydicom.dataset import FileMetaDataset

from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from kpn_tf.dicom.reading.bounded import LARGEST_FRAME_HEADER, LARGEST_HEADER, MOST_FRAMES
from kpn_tf.dicom.reading.content import opened
from kpn_tf.dicom.reading.ct_slice import single_frame
from kpn_tf.dicom.reading.decoding import is_native, stored_values
from kpn_tf.dicom.reading.frame_places import pixel_data_value
from kpn_tf.dicom.reading.header import multi_frame_name, pixel_header, read_dataset, set_transfer_syntax
from kpn_tf.dicom.reading.multi_frame import MultiFrame
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.dicom.transcoding import transcoded, write_head
from kpn_tf.dicom.writing.file import write_file
from kpn_tf.dicom.writing.lossy_history import set_lossy_history

_PIXEL_DATA = 0x7FE00010
_LARGEST = LARGEST_HEADER + MOST_FRAMES * LARGEST_FRAME_HEADER
# Even, as pixels of 16 bits are.
_BLOCK = 1 << 20


def reencode(path, target, syntax):
    """Writes a CT object in Explicit or Implicit VR Little Endian, decompressed where it is compressed.

    Identity and attributes stay. What stands behind the pixels (padding, signatures over the object) is left out.
    What was compressed lossily says so afterwards.

    Args:
        path: The object.
        target: Where to; must not exist, and may be left behind half-written on errors.
        syntax: The transfer syntax, a `pydicom.uid.UID`.

    Raises:
        DicomError: If it is damaged, or there is no decoder for it.
        OSError: If it cannot be written.
    """
    implicit = syntax.is_implicit_VR
    with opened(path) as content, open(target, "xb") as file:
        source = read_dataset(path, content, stop_before_pixels=True, largest=_LARGEST)
        pixels_at = content.tell()
        set_transfer_syntax(source)
        result = transcoded(source, implicit=implicit)
        result.file_meta = _meta(source, syntax)
        if is_native(source.file_meta.TransferSyntaxUID):
            vr, length, blocks = _native(path, content, pixels_at, *source.original_encoding)
        else:
            vr, length, blocks = _decompressed(path, source)
            set_lossy_history(result, source, length, content.seek(0, 2) - pixels_at)
        write_file(file, result)
        write_head(file, _PIXEL_DATA, vr, length, implicit=implicit)
        for block in blocks:
            file.write(block)


def _meta(source, syntax):
    meta = FileMetaDataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        announced = text(source.file_meta, f"MediaStorage{keyword}")
        setattr(meta, f"MediaStorage{keyword}", announced or text(source, keyword))
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _native(path, content, pixels_at, implicit, little):
    try:
        position, length = pixel_data_value(content, pixels_at, implicit=implicit, little=little)
    except ValueError as error:
        raise DicomError(path, str(error)) from None
    if length is None or position + length > content.seek(0, 2):
        raise DicomError(path, "is cut off inside its pixel data")
    content.seek(pixels_at + 4)
    # In Implicit VR it is OW (PS3.5 A.1).
    vr = "OW" if implicit else content.read(2).decode("latin1")
    return vr, length, _blocks(content, position, length, swapped=vr == "OW" and not little)


def _blocks(content, position, length, *, swapped):
    content.seek(position)
    for left in range(length, 0, -_BLOCK):
        block = bytearray(content.read(min(left, _BLOCK)))
        if swapped:
            block[0::2], block[1::2] = block[1::2], block[0::2]
        yield block


def _decompressed(path, source):
    if multi_frame_name(source):
        multi = MultiFrame(path)
        pixels, count = pixel_header(path, multi.header(1)), multi.frames
        frames = (multi.read(number) for number in range(1, count + 1))
    else:
        pixels, count, frames = pixel_header(path, source), 1, iter([single_frame(path)])
    return "OW", 2 * count * pixels.rows * pixels.columns, (_pixels(path, frame, pixels) for frame in frames)


def _pixels(path, frame, pixels):
    try:
        return stored_values(frame, pixels).astype("<i2" if pixels.signed else "<u2").tobytes()
    except Exception as error:
        # Decoders raise whatever they like on damaged data.
        raise DicomError(path, "has pixel data that cannot be decoded") from error
