"""Small files that ask for much: each is CT as far as its first attributes say."""

import io
import struct
import warnings
import zlib

import numpy as np
from pydicom import dcmwrite, uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag

from tests.dicom_fixtures import ct_dataset

ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
END_OF_ITEMS = b"\xfe\xff\xdd\xe0\0\0\0\0"
UNDEFINED = 0xFFFFFFFF
ENHANCED = uid.EnhancedCTImageStorage
PER_FRAME = 0x52009230
SOP_UID = ct_dataset().SOPInstanceUID


def encoded(dataset=None, *, sop_class=uid.CTImageStorage, syntax=uid.ExplicitVRLittleEndian, **attributes):
    """Meta header and elements of a CT slice, whose attributes may be others."""
    dataset = ct_dataset() if dataset is None else dataset
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    # As long as the name of any syntax in use.
    meta = content[:start].replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0",
        b"UI"
        + struct.pack("<H", len(syntax) + len(syntax) % 2)
        + syntax.encode()
        + b"\0" * (len(syntax) % 2),
    )
    meta = meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]
    return meta, content[start:]


def ordinary(side):
    """A slice like any other: noise around 0 HU."""
    stored = np.random.default_rng(5).normal(1024.0, 20.0, (side, side)).astype("<u2")
    return b"".join(encoded(ct_dataset(stored, intercept="-1024")))


def sequence(tag, items, length=None):
    """An explicit sequence; of undefined length if none is given."""
    tag = Tag(tag)
    head = struct.pack("<HH2sHI", tag.group, tag.element, b"SQ", 0, UNDEFINED if length is None else length)
    return head + items + (END_OF_ITEMS if length is None else b"")


def deflated(meta, *parts):
    """A file of the deflated syntax; the meta header has to say so."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return meta + b"".join(map(packer.compress, parts)) + packer.flush()


def empty_frames(frames, *, announced=None, known_length=False):
    """A deflated Enhanced CT object: frames without attributes and without pixels."""
    meta, elements = encoded(
        sop_class=ENHANCED, syntax=uid.DeflatedExplicitVRLittleEndian, NumberOfFrames=announced or frames
    )
    at = elements.index(b"\xe0\x7f\x10\x00")
    items = ITEM * frames
    own = sequence(PER_FRAME, items, len(items) if known_length else None)
    return deflated(meta, elements[:at], own, elements[at:])


def items_in_a_slice(items, *, known_length=False):
    """A slice with a sequence of empty items."""
    meta, elements = encoded()
    at = elements.index(b"\xe0\x7f\x10\x00")
    empty = ITEM * items
    return (
        meta
        + elements[:at]
        + sequence(0x00540016, empty, len(empty) if known_length else None)
        + elements[at:]
    )


def elements_in_a_slice(count):
    """A slice with so many private elements before its pixels."""
    meta, elements = encoded()
    at = elements.index(b"\xe0\x7f\x10\x00")
    private = (struct.pack("<HH2sH", 0x6001 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(count))
    return meta + elements[:at] + b"".join(private) + elements[at:]


def deflated_zeros_behind_the_pixels(count):
    """A deflated slice, and zeros behind its pixels."""
    meta, elements = encoded(syntax=uid.DeflatedExplicitVRLittleEndian)
    return deflated(meta, elements, b"\0" * count)


def deflated_slice(side):
    """A deflated slice of so many rows and columns of zeros."""
    meta, elements = encoded(syntax=uid.DeflatedExplicitVRLittleEndian, Rows=side, Columns=side)
    at = elements.index(b"\xe0\x7f\x10\x00")
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 2 * side * side)
    return deflated(meta, elements[:at], pixels, b"\0" * (2 * side * side))


def jpeg_2000_of_tiles(side, tile):
    """A slice that says it has many tiles, of which one is there."""
    dataset = ct_dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom on OpenJPEG's encoder: "experimental"
        dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">8I", frame, at, side, side, 0, 0, tile, tile, 0, 0)
    dataset.Rows = dataset.Columns = side
    dataset.PixelData = encapsulate([bytes(frame)])
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def trailing_zeros(count):
    """A slice, and zeros behind its pixels."""
    meta, elements = encoded()
    return meta + elements + b"\0" * count


def inflating_to(size):
    """A deflated slice with private data of so many zeros before its pixels."""
    meta, elements = encoded(syntax=uid.DeflatedExplicitVRLittleEndian)
    at = elements.index(b"\xe0\x7f\x10\x00")
    private = struct.pack("<HH2sHI", 0x6001, 0x1010, b"OB", 0, size) + b"\0" * size
    return deflated(meta, elements[:at], private, elements[at:])


def inflated(content):
    """What deflated bytes inflate to."""
    return zlib.decompress(content, -zlib.MAX_WBITS)
