"""DICOM encodings written out: the slow, obvious twin of `kpn_tf.dicom.transcoding`, free of pydicom's parser.

An element is `(tag, vr, value)`; the value is bytes, numbers in little endian, or, for a sequence, a list of items,
which are lists of elements.

Source: DICOM PS3.5 7.1, 7.3, 7.5, A.1 to A.5.
"""

import struct
import zlib

from pydicom.datadict import dictionary_VR

LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
UNIT = {"AT": 2, "OW": 2, "SS": 2, "US": 2, "FL": 4, "OF": 4, "OL": 4, "SL": 4, "UL": 4}
UNIT |= {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}
UNDEFINED = 0xFFFFFFFF


def turned(value, vr):
    """A value with the bytes of each of its numbers reversed; one that is not made of numbers as it is."""
    unit = UNIT.get(vr, 1)
    if len(value) % unit:
        return value
    return b"".join(value[at : at + unit][::-1] for at in range(0, len(value), unit))


def encoded(elements, *, implicit=False, little=True, undefined=False):
    """Bytes of a data set; `undefined`: sequences and items end with delimiters instead of having lengths."""
    order, out = "<" if little else ">", b""

    def mark(element, length):
        return struct.pack(f"{order}HHI", 0xFFFE, element, length)

    for tag, vr, value in elements:
        if isinstance(value, list):
            body = b""
            for item in value:
                content = encoded(item, implicit=implicit, little=little, undefined=undefined)
                if undefined:
                    body += mark(0xE000, UNDEFINED) + content + mark(0xE00D, 0)
                else:
                    body += mark(0xE000, len(content)) + content
            length = UNDEFINED if undefined else len(body)
            body += mark(0xE0DD, 0) if undefined else b""
        else:
            body, length = value if little else turned(value, vr), len(value)
        out += struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            out += struct.pack(f"{order}I", length)
        elif vr in LONG:
            out += vr.encode() + struct.pack(f"{order}HI", 0, length)
        else:
            out += vr.encode() + struct.pack(f"{order}H", length)
        out += body
    return out


def decoded(content, *, implicit=False, little=True, end=None):
    """Elements of a data set up to its pixel data, and where they end."""
    order, at, elements = "<" if little else ">", 0, []
    end = len(content) if end is None else end
    while at < end:
        group, number = struct.unpack_from(f"{order}HH", content, at)
        tag = group << 16 | number
        if tag in (0xFFFEE00D, 0xFFFEE0DD):
            return elements, at + 8
        if tag >= 0x7FE00000:
            break
        if implicit:
            vr, (length,), at = _known(tag), struct.unpack_from(f"{order}I", content, at + 4), at + 8
        else:
            vr = content[at + 4 : at + 6].decode()
            if vr in LONG:
                (length,), at = struct.unpack_from(f"{order}I", content, at + 8), at + 12
            else:
                (length,), at = struct.unpack_from(f"{order}H", content, at + 6), at + 8
        if vr == "SQ" or length == UNDEFINED:
            stop, items = (end if length == UNDEFINED else at + length), []
            while at < stop:
                _, mark, size = struct.unpack_from(f"{order}HHI", content, at)
                at += 8
                if mark == 0xE0DD:
                    break
                last = len(content) - at if size == UNDEFINED else size
                item, used = decoded(content[at : at + last], implicit=implicit, little=little)
                items.append(item)
                at += used
            elements.append((tag, "SQ", items))
        else:
            value = content[at : at + length]
            elements.append((tag, vr, value if little else turned(value, vr)))
            at += length
    return elements, at


def of_file(path):
    """Elements of a file up to its pixel data."""
    content = path.read_bytes()
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    meta = {tag: value for tag, _, value in decoded(content[132:start])[0]}
    syntax, body = meta[0x00020010].rstrip(b"\0").decode(), content[start:]
    if syntax == "1.2.840.10008.1.2.1.99":
        body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body)
    return decoded(body, implicit=syntax == "1.2.840.10008.1.2", little=syntax != "1.2.840.10008.1.2.2")[0]


def _known(tag):
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
